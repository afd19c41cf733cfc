import { assert, describe, it } from "@effect/vitest"

import { cutSecrets } from "../../../src/layers/config/cutSecrets.ts"

describe("cutSecrets", () => {
  it.each([
    [
      'Unexpected positional argument: "postgres://u:p@h/db", "x"',
      'Unexpected positional argument: "postgres://<redacted>'
    ],
    ['Unknown subcommand "postgres://u:a "b\nc@h" for "import"', 'Unknown subcommand "postgres://<redacted>'],
    ["Unrecognized flag: --password=secret in command import", "Unrecognized flag: --password=<redacted>"],
    ["PGPASSWORD = secret", "PGPASSWORD =<redacted>"],
    ["a://b c://d", "a://<redacted>"],
    ["Missing required argument: FILE", "Missing required argument: FILE"],
    ['Unknown subcommand "catalogs"', 'Unknown subcommand "catalogs"']
  ])("%s", (text, expected) => {
    assert.strictEqual(cutSecrets(text), expected)
  })
})
