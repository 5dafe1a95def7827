import Glibc

@_silgen_name("_swift_stdlib_overrideUnsafeArgvArgc")
private func setCommandLine(_ words: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?, _ count: Int32)

/// Runs before Swift's runtime starts, which reads /proc: without it, it would end the process for want of its own path,
/// and know no word of the command line. In a container or a chroot there may be no /proc. The C library gives the words
/// to this function, and any root that SWIFT_ROOT names will do: dmae runs none of Swift's tools.
@section(".init_array.00101") @used
private let start: @convention(c) (Int32, UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?) -> Void = {
    count, words in
    if access("/proc/self/exe", F_OK) != 0 { setenv("SWIFT_ROOT", "/", 0) }
    setCommandLine(words, count)
}
