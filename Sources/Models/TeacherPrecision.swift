import Tensors

/// What the operands of the linear layers in a frozen teacher's blocks are rounded to.
public enum TeacherPrecision: String, Codable, CaseIterable, Sendable {
    /// The step's precision.
    case same
    /// Whole numbers of 8 bits. Attention, norms and what is kept between operations stay in the step's precision, and
    /// so does the patch embedding: it is a two-hundredth of the teacher's arithmetic, and in int8 it would add a third
    /// to the error of the features.
    case int8

    func matrices(in precision: Precision) -> Precision { self == .int8 ? .int8 : precision }
}
