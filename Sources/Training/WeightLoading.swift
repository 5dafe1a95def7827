import Models
import Tensors
import Weights

extension Parameters {
    /// Copies every parameter's weight from `file`, where it stands under `prefix` + its name.
    ///
    /// - Parameter optional: whether a parameter may be missing (it then keeps its value): for position tables, which are fixed
    ///   and computed, and for parts such as a decoder that the caller has checked for.
    /// - Returns: what the file lacks and what it holds beside; `unexpected` counts names under `prefix` only.
    /// - Throws: `Failure.badData`, before anything is copied, where a tensor is missing or has another shape.
    @discardableResult
    public func load(
        from file: any WeightFile, prefix: String = "", optional: (String) -> Bool = { $0.hasSuffix("pos_embed") }
    ) throws -> TensorMatching {
        let matching = TensorMatching(wanted: all.map { (prefix + $0.name, $0.shape) }, file: file, prefix: prefix)
        if let difference = matching.differences.first {
            throw Failure(
                .badData,
                "\(file.path): tensor \(difference.name) has shape \(Self.text(difference.found)), but this model needs "
                    + "\(Self.text(difference.wanted)): check the model's size, the patch size and the image size")
        }
        let missing = matching.missing.filter { !optional(String($0.dropFirst(prefix.count))) }
        if !missing.isEmpty {
            throw Failure(
                .badData,
                "\(file.path): lacks \(missing.count) of the \(all.count) tensors this model needs, such as \(missing[0]): use "
                    + "weights that hold them, or a smaller model; `dmae inspect` lists what is there")
        }
        try fill { _, parameter in
            guard file[prefix + parameter.name] != nil else { return }
            try file.copyFloats(prefix + parameter.name, into: parameter.weight.elements)
        }
        return matching
    }

    private static func text(_ shape: [Int]) -> String { "[" + shape.map(String.init).joined(separator: ", ") + "]" }
}
