import Models
import Reporting
import Weights

extension ModelWeights {
    /// The pool that a head on this encoder reads by default, as `dmae embed` chooses it: the mean of the patch tokens
    /// if the weights hold `fc_norm` instead of `norm`, else the class token.
    ///
    /// - Throws: `Failure.badData` if they hold both.
    public func defaultPool(for user: String) throws -> ClassifierPool {
        try tensors.requireOneNorm(user, "choose one with \(.pool)")
        return tensors.holdsLayer("fc_norm") ? .mean : .class
    }

    /// - Throws: `Failure.usage` if the weights do not hold the norm that `pool` needs. `fc_norm` may be missing if
    ///   there is `norm`: it is then the identity, as in MAE's linear probe.
    public func requireNorm(of pool: ClassifierPool) throws {
        guard pool == .class, !tensors.holdsLayer("norm"), tensors.holdsLayer("fc_norm") else { return }
        throw Failure(
            .usage,
            "\(.pool, pool.rawValue) does not fit \(path), which has a norm for the mean of the patch tokens alone: "
                + "leave it out, or use \(.pool, ClassifierPool.mean.rawValue)")
    }

    /// Whether the frozen tensor called `name` may be missing: position tables are computed, and `fc_norm` is the
    /// identity.
    public func mayLack(_ name: String) -> Bool {
        ModelLayout.isPositionTable(name) || (name.hasPrefix("fc_norm.") && tensors.holdsLayer("norm"))
    }

    /// The encoder's tensors for another file, read as float32 when they are written: those of this file, and what
    /// `mayLack` allows to be missing.
    ///
    /// - Parameter pool: decides which norm is among them.
    public func encoderTensors(_ encoder: EncoderConfiguration, pool: ClassifierPool) -> [TensorSource] {
        ModelLayout.encoder(encoder, norms: [pool.norm]).entries.map { entry in
            TensorSource(name: entry.name, type: .f32, shape: entry.shape) { [tensors] write in
                var values = [Float](repeating: entry.name.hasSuffix(".weight") ? 1 : 0, count: entry.count)
                try values.withUnsafeMutableBufferPointer { values in
                    if tensors[entry.name] != nil {
                        try tensors.copyFloats(entry.name, into: values)
                    } else if ModelLayout.isPositionTable(entry.name) {
                        PositionTable.fill(
                            values, rows: encoder.gridRows, columns: encoder.gridColumns, width: encoder.width)
                    }
                    try write(UnsafeRawBufferPointer(values))
                }
            }
        }
    }
}
