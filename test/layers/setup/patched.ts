/**
 * Fails a test file in which a patch of grpc-js was not applied, so that an upgrade of grpc-js does not lose one unnoticed.
 */
import { afterAll, assert } from "@effect/vitest"

import * as Compat from "../../../src/layers/grpc/grpc-js/compat.ts"

afterAll(() => assert.deepStrictEqual(Compat.inactive(), new Map()))
