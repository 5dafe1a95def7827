import Tensors

/// When in a pass memory is used; what is used in one of these and what is used in another may be the same memory.
extension MemoryPlan.Phases {
    /// Weights that stay what they are get set.
    static let loading = Self(rawValue: 1 << 0)
    /// The teacher runs.
    static let teacher = Self(rawValue: 1 << 1)
    /// The student runs, and its features are held against the teacher's.
    static let student = Self(rawValue: 1 << 2)
    /// The decoder runs, forward and backward.
    static let decoder = Self(rawValue: 1 << 3)
    /// The student runs backward.
    static let studentBackward = Self(rawValue: 1 << 4)
}
