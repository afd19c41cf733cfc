/**
 * Where the project is on the disk, so that relative paths mean the same wherever a process was started.
 */
import { Context, Effect, FileSystem, Layer, Path, Schema } from "effect"

/** The process has been started from a place where the project is not. */
export class ProjectRootError extends Schema.TaggedError<ProjectRootError>()("ProjectRootError", {
  message: Schema.String
}) {}

export class ProjectRoot extends Context.Service<
  ProjectRoot,
  {
    /** An absolute path; one that is absolute already is left as it is. */
    readonly resolve: (path: string) => string
  }
>()("layers/config/ProjectRoot") {
  /**
   * The nearest folder at or above a module that has an entry of that name: `ProjectRoot.layer(import.meta.url, "proto/api.proto")`
   * is the same folder from a source file and from a bundle in dist/.
   */
  static readonly layer = (moduleUrl: string, marker: string) =>
    Layer.effect(
      ProjectRoot,
      Effect.gen(function* () {
        const fs = yield* FileSystem.FileSystem
        const path = yield* Path.Path
        const start = path.dirname(yield* path.fromFileUrl(new URL(moduleUrl)))
        let folder = start
        while (!(yield* fs.exists(path.join(folder, marker)))) {
          const parent = path.dirname(folder)
          if (parent === folder) {
            return yield* new ProjectRootError({
              message: `${start}: expected ${marker} in this folder or one above it`
            })
          }
          folder = parent
        }
        const root = folder
        return ProjectRoot.of({ resolve: (relative) => path.resolve(root, relative) })
      }).pipe(Effect.catchTags({ BadArgument: Effect.die, PlatformError: Effect.die }))
    )
}
