import CKernels

/// The OpenMP threads every kernel driver uses.
public enum Threads {
    /// The threads a parallel region really gets; 1 while `count` is more means that OpenMP is serial.
    public static var observed: Int { Int(dmae_threads_observed()) }
}
