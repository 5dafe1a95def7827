import Glibc

@_silgen_name("_swift_stdlib_overrideUnsafeArgvArgc")
private func setCommandLine(_ words: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?, _ count: Int32)

/// Runs before Swift's runtime starts: priority 101 is the first one that programs may use. The runtime looks for its
/// backtracer beside the program, and ends the process where it cannot read /proc/self/exe; a failure of ours is a
/// sentence, so it is told not to look. It reads the words of the command line from /proc, and beside the environment,
/// which is moved by that; here the C library hands them over.
@section(".init_array.00101") @used
private let start: @convention(c) (Int32, UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?) -> Void = {
    count, words in
    setenv("SWIFT_BACKTRACE", "enable=no,swift-backtrace=/nonexistent", 0)
    setCommandLine(words, count)
}
