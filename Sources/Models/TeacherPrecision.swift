import Tensors

/// The precision of the operands of the linear layers in a frozen teacher's blocks.
public enum TeacherPrecision: String, Codable, CaseIterable, Sendable {
    /// The step's precision.
    case same
    /// 8-bit integers. Attention, norms and the activations between operations stay in the step's precision. So does
    /// the patch embedding: it is 1/200 of the teacher's operations, and in int8 it would raise the error of the
    /// features by a third.
    case int8

    func matrices(in precision: Precision) -> Precision { self == .int8 ? .int8 : precision }
}
