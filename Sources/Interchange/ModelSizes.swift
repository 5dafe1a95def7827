import Models
import Reporting
import Weights

/// Recognises a model's sizes from the shapes of its tensors.
struct ModelSizes {
    let tensors: CanonicalWeightFile
    let path: String

    init(_ tensors: CanonicalWeightFile, path: String) {
        self.tensors = tensors
        self.path = path
    }

    /// The encoder's sizes; `heads` is 0 and the image size 0 × 0 if unknown.
    ///
    /// - Parameters:
    ///   - told: the image size in the file's metadata or timm's `config.json`.
    ///   - configuration: of Hugging Face's `config.json`.
    ///   - heads: those stated; nil leaves them to the presets.
    /// - Returns: the sizes, whether `told` or `configuration` states the image size, and the rows of the position table.
    /// - Throws: `Failure.badData` if the shapes are not those of an MAE's ViT.
    func encoder(_ told: ImageSize?, _ configuration: HuggingFaceConfiguration?, heads: Int?) throws
        -> (encoder: EncoderConfiguration, sizeIsTold: Bool, rows: PositionRows)
    {
        let projection = try shape("patch_embed.proj.weight", 4)
        guard projection[2] == projection[3] else {
            throw Failure(
                .badData,
                "\(path): its patches are \(projection[2])×\(projection[3]) pixels, but MAE's ViT has square ones")
        }
        let (width, channels, side) = (projection[0], projection[1], projection[2])
        let depth = try depth("blocks", width: width)
        guard depth > 0 else {
            throw Failure(.badData, "\(path): holds a patch projection but no transformer block; name another file")
        }
        var height = 0, imageWidth = 0, isTold = true
        var rows = PositionRows.none
        if let table = tensors["pos_embed"] {
            guard table.shape.count == 3, table.shape[0] == 1, table.shape[2] == width, table.shape[1] > 1 else {
                throw Failure(
                    .badData,
                    "\(path): its position table has shape \(table.shape), but an MAE's has [1, 1 + patches, \(width)]")
            }
            let sizes = [
                (told?.height, told?.width),
                (configuration?.imageSize?.height, configuration?.imageSize?.width),
            ]
            (height, imageWidth, isTold) = size(patches: table.shape[1] - 1, side: side, sizes)
            rows = PositionRows(table.shape[1], told: sizes.compactMap { patches($0, side: side) })
        } else if let told {
            (height, imageWidth) = (told.height, told.width)
        } else if let size = configuration?.imageSize {
            (height, imageWidth) = (size.height, size.width)
        }
        let isPossible = (1...Self.largestSide).contains(height) && (1...Self.largestSide).contains(imageWidth)
        if !isPossible || height % side != 0 || imageWidth % side != 0 { (height, imageWidth, isTold) = (0, 0, false) }
        let heads =
            heads ?? Preset.encoders.first { $0.width == width && $0.depth == depth }?.heads
            ?? Preset.encoders.first { $0.width == width }?.heads
        try check(heads: heads, width: width)
        let encoder = EncoderConfiguration(
            width: width, depth: depth, heads: heads ?? 0, patchSize: side, imageHeight: height, imageWidth: imageWidth,
            channels: channels)
        return (encoder, isTold, rows)
    }

    /// The decoder's sizes, `heads` 0 if unknown; nil without a decoder.
    ///
    /// - Throws: `Failure.badData` if the shapes are not those of an MAE's decoder.
    func decoder(heads: Int?) throws -> DecoderConfiguration? {
        guard tensors["decoder_pred.weight"] != nil else { return nil }
        let width = try shape("decoder_embed.weight", 2)[0]
        let depth = try depth("decoder_blocks", width: width)
        let heads = heads ?? Preset.decoders.first { $0.width == width }?.heads
        try check(heads: heads, width: width)
        return DecoderConfiguration(width: width, depth: depth, heads: heads ?? 0)
    }

    /// The longest side of a picture that is decoded.
    static let largestSide = 1 << 20

    private func check(heads: Int?, width: Int) throws {
        guard let heads else { return }
        guard heads > 0, width % heads == 0 else {
            throw Failure(
                .badData,
                "\(path): says of itself, or in config.json, that it has \(heads) attention heads, which do not divide "
                    + "its width of "
                    + "\(width)")
        }
    }

    /// The number of blocks called `name`.0, `name`.1 and so on.
    ///
    /// - Throws: `Failure.badData` if a number is left out, or the MLP's hidden width is not four times the width.
    private func depth(_ name: String, width: Int) throws -> Int {
        let depth = count(name, marks: ["norm1.weight"])
        if let beyond = tensors.names.first(where: { number($0, of: name).map { $0 >= depth } == true }) {
            throw Failure(
                .badData,
                "\(path): holds \(beyond) but no \(name).\(depth).norm1.weight: blocks are missing; download or write "
                    + "the "
                    + "file again")
        }
        if let hidden = tensors["\(name).0.mlp.fc1.weight"]?.shape.first,
            !width.multipliedReportingOverflow(by: 4).overflow,
            hidden != 4 * width
        {
            throw Failure(
                .badData,
                "\(path): the hidden layer of its MLPs is \(hidden) wide. dmae runs Vision Transformers whose MLPs are four "
                    + "times as wide as the model, here \(4 * width): use weights of such a one")
        }
        return depth
    }

    /// How many parts `name`.0, `name`.1, … there are; a part is there if it holds one of the tensors `marks`.
    func count(_ name: String, marks: [String]) -> Int {
        (0...).first { index in marks.allSatisfy { tensors["\(name).\(index).\($0)"] == nil } }!
    }

    private func number(_ tensor: String, of name: String) -> Int? {
        guard tensor.hasPrefix(name + ".") else { return nil }
        return tensor.dropFirst(name.count + 1).split(separator: ".").first.flatMap { Int($0) }
    }

    /// The image size: the first of `told` with that number of patches, else the square, else 0 × 0; and whether it is
    /// one of `told`.
    private func size(patches: Int, side: Int, _ told: [(Int?, Int?)]) -> (Int, Int, Bool) {
        for size in told {
            guard let height = size.0, let width = size.1, self.patches(size, side: side) == patches else { continue }
            return (height, width, true)
        }
        let rows = Int(Double(patches).squareRoot().rounded())
        let (square, overflow) = rows.multipliedReportingOverflow(by: rows)
        guard !overflow, square == patches, !rows.multipliedReportingOverflow(by: side).overflow else {
            return (0, 0, false)
        }
        return (rows * side, rows * side, false)
    }

    /// The patches of a picture of this height and width; nil if one is unknown, or they do not tile it.
    private func patches(_ size: (Int?, Int?), side: Int) -> Int? {
        guard let height = size.0, let width = size.1, side > 0, height > 0, width > 0, height % side == 0,
            width % side == 0
        else { return nil }
        let (product, overflow) = (height / side).multipliedReportingOverflow(by: width / side)
        return overflow ? nil : product
    }

    private func shape(_ name: String, _ dimensions: Int) throws -> [Int] {
        guard let entry = tensors[name] else {
            throw Failure(.badData, "\(path): the tensor \(name) is missing; use weights that were saved whole")
        }
        guard entry.shape.count == dimensions else {
            throw Failure(.badData, "\(path): \(name) has \(entry.shape.count) dimensions instead of \(dimensions)")
        }
        // The dimensions of a tensor that is not empty can be multiplied without overflow: the file holds as many
        // bytes.
        guard entry.count > 0 else {
            throw Failure(.badData, "\(path): \(name) is empty; use weights that were saved whole")
        }
        return entry.shape
    }
}
