/**
 * Has grpc-js ask the name server that a target names, and not the system. It reads this once, when it is loaded, so this
 * module is imported before it.
 */
process.env["GRPC_NODE_USE_ALTERNATIVE_RESOLVER"] = "true"
