/** One name of a certificate's subjectAltName extension. */
export interface SubjectAltName {
  readonly type: string
  readonly value: string
}
export const subjectAltNames = (_certificate: unknown): ReadonlyArray<SubjectAltName> => []
export const isAllowed = (_names: ReadonlyArray<SubjectAltName>, _allowed: ReadonlySet<string>): boolean => false
export const format = ({ type, value }: SubjectAltName): string => `${type}:${value}`
