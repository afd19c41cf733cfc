/**
 * Leaves all patches of grpc-js off, so that the tests run on its public API alone.
 */
import * as Compat from "../../../src/layers/grpc/grpc-js/compat.ts"

Compat.disableAll()
