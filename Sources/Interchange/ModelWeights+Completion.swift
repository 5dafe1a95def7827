import Models
import Reporting
import Weights

extension ModelWeights {
    /// The encoder to run: the sizes in the file, completed by those the user gives.
    ///
    /// - Parameters:
    ///   - heads, imageSize: the user's; nil if not given.
    ///   - resampling: whether position tables are resampled to the user's image size, which then may differ from the
    ///     file's.
    /// - Throws: `Failure.usage` if a size is missing, or the user's contradicts the file or does not fit it;
    ///   `Failure.badData` if the file's own sizes cannot be run.
    public func runnableEncoder(
        heads: Int?, imageSize: ImageSize?, resampling: Bool = false
    ) throws -> EncoderConfiguration {
        let completed = try completedEncoder(heads: heads, imageSize: imageSize, resampling: resampling)
        try requireReadable()
        if heads == nil, completed.heads == 0 { throw unknownHeads(.heads) }
        if completed.imageHeight == 0 { throw unknownImageSize() }
        do { try completed.validate(role: "encoder") } catch let failure as Failure {
            throw failure.found(in: path, as: heads == nil && imageSize == nil ? .badData : .usage)
        }
        return completed
    }

    /// The decoder to run: the sizes in the file, completed by the heads the user gives.
    ///
    /// - Throws: `Failure.badData` if there is no decoder, or none that can be run; `Failure.usage` if the heads are
    ///   missing, contradict the file or do not fit it.
    public func runnableDecoder(heads: Int?) throws -> DecoderConfiguration {
        try requireDecoder()
        guard let completed = try completedDecoder(heads: heads), heads != nil || completed.heads != 0 else {
            throw unknownHeads(.decoderHeads)
        }
        do { try completed.validate() } catch let failure as Failure {
            throw failure.found(in: path, as: heads == nil || completed.depth == 0 ? .badData : .usage)
        }
        return completed
    }

    /// As `runnableEncoder`, but sizes that neither the file nor the user gives stay unknown.
    func completedEncoder(
        heads: Int?, imageSize: ImageSize?, resampling: Bool = false
    ) throws -> EncoderConfiguration {
        try requireKnownParts()
        // A size that is not a multiple of the patches' is refused below.
        let patches = imageSize.flatMap { size -> Int? in
            let (product, overflow) = (size.height / encoder.patchSize).multipliedReportingOverflow(
                by: size.width / encoder.patchSize)
            return overflow ? nil : product
        }
        try requirePositions(patches: patches)
        if let heads { try requireUntold(heads, toldHeads, by: "\(.heads, heads)") }
        var completed = encoder
        completed.heads = heads ?? completed.heads
        if let imageSize {
            if !resampling || encoder.imageHeight == 0 { try requireFitting(imageSize) }
            (completed.imageHeight, completed.imageWidth) = (imageSize.height, imageSize.width)
        }
        return completed
    }

    /// As `runnableDecoder`, but heads that neither the file nor the user gives stay unknown; nil without a decoder.
    func completedDecoder(heads: Int?) throws -> DecoderConfiguration? {
        if let heads { try requireUntold(heads, toldDecoderHeads, by: "\(.decoderHeads, heads)") }
        var completed = decoder
        if let heads { completed?.heads = heads }
        return completed
    }

    private func unknownHeads(_ field: Field) -> Failure {
        let width = field == .decoderHeads ? decoder?.width ?? 0 : encoder.width
        return Failure(
            .usage,
            "\(field) is needed: \(path) does not say the number of attention heads, and no preset has its "
                + "width\(Self.usualHeads(field, ofWidth: width))"
        )
    }

    /// The end of a sentence that asks for heads: the usual number for that width. MAE's and most other ViTs have heads of
    /// 64, MAE's decoders of 32. Empty where such heads do not divide the width.
    package static func usualHeads(_ field: Field, ofWidth width: Int) -> Message {
        let head = field == .decoderHeads ? 32 : 64
        guard width > 0, width % head == 0 else { return "" }
        return "; a head is usually \(head) wide, which would be \(field, width / head) for the width of \(width)"
    }

    /// The failure of an image size that neither the file nor the user gives.
    ///
    /// - Parameter reader: the file that has to state the size, for a model that is only written.
    func unknownImageSize(neededBy reader: String? = nil) -> Failure {
        let clue = tensors["pos_embed"] == nil ? "it has no position table" : "its patches form no square"
        let rest = reader.map { ", \(clue), and \($0) needs it" } ?? ", and \(clue)"
        return Failure(.usage, "\(.imageSize) is needed: \(path) does not say the image size\(rest)")
    }

    /// Refuses heads of the encoder that contradict those stated in the file; `setting` says what led to them.
    public func requireUntold(_ heads: Int, by setting: Message) throws {
        try requireUntold(heads, toldHeads, by: setting)
    }

    /// Refuses a width of the encoder other than that of the file's tensors; `setting` says what led to it.
    public func requireWidth(_ width: Int, by setting: Message) throws {
        guard width != encoder.width else { return }
        throw Failure(.usage, "\(setting) contradicts \(path), whose width is \(encoder.width): leave it out")
    }

    /// Refuses more blocks of the encoder than the file holds; `setting` says what led to them.
    public func requireBlocks(_ depth: Int, by setting: Message) throws {
        guard depth > encoder.depth else { return }
        throw Failure(
            .usage,
            "\(setting) contradicts \(path), which holds \(Self.counted(encoder.depth, "block")): leave it out, or "
                + "lower it"
        )
    }

    /// Requires that the encoder is of the sizes of `student`, which is to start from these weights.
    ///
    /// - Throws: `Failure.badData`, with the sizes of both.
    public func requireSizes(of student: EncoderConfiguration) throws {
        let heads = toldHeads ?? student.heads
        guard
            (encoder.width, encoder.depth, encoder.patchSize, heads)
                != (student.width, student.depth, student.patchSize, student.heads)
        else { return }
        func text(_ encoder: EncoderConfiguration, _ heads: Int?) -> String {
            let heads = heads.map { ", \(Self.counted($0, "head"))" } ?? ""
            return "width \(encoder.width), \(Self.counted(encoder.depth, "block"))\(heads) and patches of "
                + "\(encoder.patchSize) pixels"
        }
        throw Failure(
            .badData,
            "\(path): is a model of \(text(encoder, toldHeads)), but the student is to have "
                + "\(text(student, student.heads)): fit \(.width), \(.depth), \(.heads) and \(.patchSize) to the weights, "
                + "or name others with \(.initialStudent)")
    }

    private func requireUntold(_ heads: Int, _ told: Int?, by setting: Message) throws {
        guard let told, heads != told else { return }
        throw Failure(.usage, "\(setting) contradicts \(path), which says that it has \(told) heads: leave it out")
    }

    /// - Throws: `Failure.usage` if images of that size do not fit the file's patches and positions.
    private func requireFitting(_ size: ImageSize) throws {
        let (height, width, side) = (size.height, size.width, encoder.patchSize)
        let setting: Message = "\(.imageSize, size)"
        // Checked first: the sides are multiplied below, which must not overflow.
        let sides = 1...ModelSizes.largestSide
        guard sides.contains(height), sides.contains(width), height % side == 0, width % side == 0 else {
            throw Failure(
                .usage,
                "\(setting) does not fit \(path): choose multiples of its patches' \(side) pixels, up to "
                    + "\(ModelSizes.largestSide)"
            )
        }
        if imageSizeIsTold, (height, width) != (encoder.imageHeight, encoder.imageWidth) {
            throw Failure(
                .usage,
                "\(setting) contradicts \(path), whose images are of \(encoder.imageHeight)×\(encoder.imageWidth) "
                    + "pixels: leave it "
                    + "out")
        }
        let patches = height / side * (width / side)
        if let table = tensors["pos_embed"], table.shape[1] != 1 + patches {
            throw Failure(
                .usage,
                "\(setting) makes \(patches) patches of \(side) pixels, but \(path) has positions for "
                    + "\(table.shape[1] - 1): name the "
                    + "size it was trained on")
        }
    }
}
