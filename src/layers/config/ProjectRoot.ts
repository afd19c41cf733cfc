/**
 * Resolves relative paths against the project's root folder, so that they do not depend on the working directory.
 */
import { Context, Effect, FileSystem, Layer, Path, Schema } from "effect"

/** The folder of the program is not inside the project. The message is one line for an operator. */
export class ProjectRootError extends Schema.TaggedError<ProjectRootError>()("ProjectRootError", {
  message: Schema.String
}) {}

/** The root folder of the project. */
export class ProjectRoot extends Context.Service<
  ProjectRoot,
  {
    /** Resolves a path against the root. An absolute path is returned unchanged. */
    readonly resolve: (path: string) => string
  }
>()("layers/config/ProjectRoot") {
  /**
   * Uses the nearest folder, at or above the folder of a module, that contains `marker`. `ProjectRoot.layer(import.meta.url,
   * "proto/api.proto")` finds the same folder from a source file and from a bundle in dist/.
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
