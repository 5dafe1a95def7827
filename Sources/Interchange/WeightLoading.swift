import Reporting
import Models
import Tensors
import Weights

extension Parameters {
    /// The result of loading weights from a file.
    public struct Loading: Sendable {
        /// Missing and additional tensors of the file.
        public let matching: TensorMatching
        /// How weights were adapted to the images, a phrase each: "position tables resampled from 14×14 to 7×7
        /// patches".
        public let adaptations: [String]
        /// XXH64 of all values as loaded, before they are rounded to the precision of the matrices; nil unless asked
        /// for.
        public let checksum: String?
    }

    /// Copies every parameter's weight from the tensor of `file` called `prefix` + the parameter's name.
    ///
    /// - Parameter optional: whether the parameter of that name may be missing; it then keeps its value. By default
    ///   position tables may.
    /// - Returns: the file's missing and additional tensors; `unexpected` has names that begin with `prefix` only.
    /// - Throws: `Failure.badData`, before anything is copied, if a tensor is missing or has another shape.
    @discardableResult
    public func load(
        from file: any WeightFile, prefix: String = "", optional: (String) -> Bool = ModelLayout.isPositionTable
    ) throws -> TensorMatching {
        try load(
            from: file, prefix: prefix, optional: optional, ignored: { _ in false }, adaptation: { _, _ in nil },
            whenLoaded: { _ in })
    }

    /// Copies every parameter's weight from `weights` and adapts them to the images of `encoder`: position tables are
    /// resampled to its grid (`PositionTable.resample`), and the patch projection is adapted to its channels
    /// (`InputChannels`).
    ///
    /// - Parameters:
    ///   - optional: see `load(from:prefix:optional:)`.
    ///   - ignored: whether the parameter of that name keeps its value whatever the file holds; for `Loading.matching`
    ///     the file lacks it.
    ///   - checksummed: whether to compute `Loading.checksum`, at about 5 GB/s.
    /// - Throws: `Failure.badData`, before anything is copied, if a tensor is missing or has a shape that cannot be
    ///   adapted.
    public func load(
        from weights: ModelWeights, for encoder: EncoderConfiguration,
        optional: (String) -> Bool = ModelLayout.isPositionTable, ignored: (String) -> Bool = { _ in false },
        checksummed: Bool = false
    ) throws -> Loading {
        try weights.requireKnownParts()
        try weights.requirePositions(patches: encoder.patches)
        let source = weights.encoder
        var adaptations: [String] = []
        var hash = XXHash64()
        func adaptation(_ parameter: Parameter, _ entry: TensorEntry) -> ((UnsafeBufferPointer<Float>) -> Void)? {
            if ModelLayout.isPositionTable(parameter.name), source.imageHeight > 0,
                (source.gridRows, source.gridColumns) != (encoder.gridRows, encoder.gridColumns),
                entry.shape == [1, 1 + source.patches, parameter.shape[2]],
                // A guessed square grid is not resampled to a grid of as many patches: it may be that grid.
                weights.imageSizeIsTold || source.patches != encoder.patches
            {
                let note =
                    "position tables resampled from \(source.gridRows)×\(source.gridColumns) to "
                    + "\(encoder.gridRows)×\(encoder.gridColumns) patches"
                if !adaptations.contains(note) { adaptations.append(note) }
                return {
                    PositionTable.resample(
                        $0, rows: source.gridRows, columns: source.gridColumns, into: parameter.weight.elements,
                        rows: encoder.gridRows, columns: encoder.gridColumns, width: parameter.shape[2])
                }
            }
            if parameter.name == "patch_embed.proj.weight", source.channels != encoder.channels,
                entry.shape == [encoder.width, source.channels, encoder.patchSize, encoder.patchSize]
            {
                let rule = InputChannels.rule(from: source.channels, to: encoder.channels)
                adaptations.append("input channels \(rule), from \(source.channels) to \(encoder.channels)")
                return {
                    InputChannels.adapt(
                        $0, channels: source.channels, into: parameter.weight.elements, channels: encoder.channels,
                        outputs: encoder.width, area: encoder.patchSize * encoder.patchSize)
                }
            }
            return nil
        }
        let matching = try load(
            from: weights.tensors, prefix: "", optional: optional, ignored: ignored, adaptation: adaptation
        ) {
            if checksummed { hash.update(UnsafeRawBufferPointer($0.weight.elements)) }
        }
        return Loading(matching: matching, adaptations: adaptations, checksum: checksummed ? hash.text : nil)
    }

    /// - Parameters:
    ///   - adaptation: called once for each tensor of the file that is wanted. Returns the function that fills the
    ///     parameter's weight from the tensor's values, or nil to copy them.
    ///   - whenLoaded: called with each parameter, in order, after its weight was set.
    private func load(
        from file: any WeightFile, prefix: String, optional: (String) -> Bool, ignored: (String) -> Bool,
        adaptation: (Parameter, TensorEntry) -> ((UnsafeBufferPointer<Float>) -> Void)?, whenLoaded: (Parameter) -> Void
    ) throws -> TensorMatching {
        var adaptations: [String: (UnsafeBufferPointer<Float>) -> Void] = [:]
        var wanted: [(name: String, shape: [Int])] = []
        for parameter in all where !ignored(parameter.name) {
            let entry = file[prefix + parameter.name]
            adaptations[parameter.name] = entry.flatMap { adaptation(parameter, $0) }
            let isAdapted = adaptations[parameter.name] != nil
            wanted.append((prefix + parameter.name, isAdapted ? entry!.shape : parameter.shape))
        }
        var matching = TensorMatching(wanted: wanted, file: file, prefix: prefix)
        if let difference = matching.differences.first {
            let isTableOfUnknownGrid =
                ModelLayout.isPositionTable(String(difference.name.dropFirst(prefix.count)))
                && difference.found.count == 3
                && difference.found.last == difference.wanted.last
            throw Failure(
                .badData,
                "\(file.path): tensor \(difference.name) has shape \(Self.text(difference.found)), but this model "
                    + "needs "
                    + "\(Self.text(difference.wanted)): "
                    + (isTableOfUnknownGrid
                        ? "run `dmae convert` on it with the \(.imageSize) of its training, and name what that writes"
                        : "check the model's size, the patch size and the image size"))
        }
        let missing = matching.missing.filter { !optional(String($0.dropFirst(prefix.count))) }
        if !missing.isEmpty {
            throw Failure(
                .badData,
                "\(file.path): lacks \(missing.count) of the \(all.count) tensors this model needs, such as "
                    + "\(missing[0]): use "
                    + "weights that hold them, or a smaller model; `dmae inspect` lists what is there")
        }
        try fill { parameter in
            defer { whenLoaded(parameter) }
            guard !ignored(parameter.name), file[prefix + parameter.name] != nil else { return }
            if let adapt = adaptations[parameter.name] {
                try file.floats(prefix + parameter.name).withUnsafeBufferPointer(adapt)
            } else {
                try file.copyFloats(prefix + parameter.name, into: parameter.weight.elements)
            }
        }
        matching.addMissing(all.filter { ignored($0.name) }.map { prefix + $0.name })
        return matching
    }

    private static func text(_ shape: [Int]) -> String { "[" + shape.map(String.init).joined(separator: ", ") + "]" }
}
