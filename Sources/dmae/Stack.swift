import Glibc

/// The stack of the program, where the shell limits it (`ulimit -s`).
enum Stack {
    private static let least = 1 << 20
    private static let ample = 8 << 20

    /// Runs `body` on the main thread, or on one with an ample stack where the limit is small.
    static func ensure(_ body: @escaping @convention(c) () -> Void) {
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_STACK.rawValue), &limit) == 0, limit.rlim_cur < rlim_t(least) else {
            return body()
        }
        var attributes = pthread_attr_t()
        pthread_attr_init(&attributes)
        pthread_attr_setstacksize(&attributes, ample)
        var thread = pthread_t()
        let context = UnsafeMutableRawPointer(bitPattern: UInt(bitPattern: unsafeBitCast(body, to: Int.self)))
        let result = pthread_create(
            &thread, &attributes,
            { body in
                unsafeBitCast(Int(bitPattern: body), to: (@convention(c) () -> Void).self)()
                return nil
            }, context)
        guard result == 0 else { return body() }
        pthread_join(thread, nil)
    }
}
