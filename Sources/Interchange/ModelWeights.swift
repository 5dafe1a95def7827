import Reporting
import FoundationEssentials
import Models
import Tensors
import Weights

/// A model found in a file of weights: its tensors under MAE's names, and the sizes that their shapes, the file's
/// metadata and a `config.json` beside it tell.
///
/// Shapes tell all but the number of heads and the form of the patch grid. Heads are those of the metadata, of
/// `config.json`, or of the presets with that width; the grid is the metadata's or `config.json`'s where it has as many
/// patches, else square.
public final class ModelWeights: Sendable {
    /// The path as it was given: a file or a folder.
    public let path: String
    /// The tensors under MAE's names; converted and joined when they are read.
    public let tensors: ModelTensors
    /// `heads` is 0 where nothing tells it, the image size is 0 × 0 where there is no position table, or none of a
    /// square.
    public let encoder: EncoderConfiguration
    /// Whether metadata or `config.json` give the image size, or it is guessed from the number of patches.
    public let imageSizeIsTold: Bool
    /// Nil where the file holds no decoder; its `heads` may be 0 too.
    public let decoder: DecoderConfiguration?
    /// Heads that metadata or `config.json` give; nil where they are a preset's, or nobody's.
    private let toldHeads, toldDecoderHeads: Int?
    /// Share of patches that was removed in training; nil where nothing tells it.
    public let maskRatio: Double?
    /// Whether the decoder was trained on standardised patches; nil where nothing tells it.
    public let normalizePixels: Bool?
    /// Outputs of the classifier `head`; nil without one.
    public let classes: Int?
    /// DMAE's projection heads.
    public let projectionHeads: Int

    /// The metadata keys that dmae writes of a model: of its own runs, and of files it converts.
    static let configurationKey = "dmae.configuration"
    static let architectureKey = "dmae.architecture"

    /// What is written of a converted model beside its tensors.
    struct Architecture: Codable {
        var encoder: EncoderConfiguration
        var decoder: DecoderConfiguration?
        var maskRatio: Double?
        var normalizePixels: Bool?
    }

    /// Opens `path` and recognises the model in it; reads names, shapes and metadata, no values.
    ///
    /// - Parameter role: which model is meant where the file holds a student and a teacher.
    /// - Throws: `Failure`: `.inputOutput` where it cannot be read; `.badData` where no naming scheme fits, or the
    ///   shapes are not those of an MAE's ViT.
    public convenience init(path: String, role: NamingScheme.Role = .student) throws {
        try self.init(WeightFiles.open(path), path: path, role: role)
    }

    /// As above, of a file that is open.
    public init(_ file: any WeightFile, path: String, role: NamingScheme.Role = .student) throws {
        self.path = path
        tensors = try ModelTensors(file, role: role)
        var told = Self.decoded(Architecture.self, file.metadata[Self.architectureKey])
        if let written = Self.decoded(ModelConfiguration.self, file.metadata[Self.configurationKey]) {
            told = Architecture(
                encoder: written.student, decoder: written.decoder, maskRatio: written.maskRatio,
                normalizePixels: written.normalizePixels)
        }
        let isHuggingFace = tensors.detection.scheme.name == NamingScheme.huggingFace(prefixed: true).name
        let configuration = isHuggingFace ? try HuggingFaceConfiguration(beside: file.path) : nil
        if let activation = configuration?.hiddenAct, activation != "gelu" {
            throw Failure(
                .badData, "\(path): config.json asks for the activation \(quoted(activation)), but MAE's ViT has gelu")
        }
        toldHeads = Self.known(told?.encoder.heads) ?? configuration?.numAttentionHeads
        toldDecoderHeads = Self.known(told?.decoder?.heads) ?? configuration?.decoderNumAttentionHeads
        let shapes = Shapes(tensors, path: path)
        (encoder, imageSizeIsTold) = try shapes.encoder(told?.encoder, configuration, heads: toldHeads)
        decoder = try shapes.decoder(heads: toldDecoderHeads)
        func argument(_ name: String) -> PlainValue? {
            file.values.first { $0.name == name || $0.name.hasSuffix(".\(name)") }?.value
        }
        var ratio = told?.maskRatio ?? configuration?.maskRatio
        if ratio == nil, case .number(let value) = argument("args.mask_ratio") { ratio = value }
        maskRatio = ratio.flatMap { $0 > 0 && $0 < 1 ? $0 : nil }
        var normalizes = told?.normalizePixels ?? configuration?.normPixLoss
        if normalizes == nil, case .bool(let value) = argument("args.norm_pix_loss") { normalizes = value }
        normalizePixels = normalizes
        let head = tensors["head.weight"] ?? tensors["head.1.weight"]
        classes = head?.shape.first
        projectionHeads = shapes.count("aligned_feature_projection_heads", marks: ["weight", "fc1.weight"])
    }

    private static func decoded<Value: Decodable>(_ type: Value.Type, _ text: String?) -> Value? {
        text.flatMap { try? JSONDecoder().decode(type, from: Data($0.utf8)) }
    }

    /// A converted file says 0 where nobody knew.
    private static func known(_ heads: Int?) -> Int? { heads == 0 ? nil : heads }

    /// Whether there is a decoder.
    public var hasDecoder: Bool { decoder != nil }

    /// - Throws: `Failure.badData` where the file holds parts that MAE's ViT does not have, so that running it, or
    ///   giving it another tool's names, would make another model of it.
    public func requireKnownParts() throws {
        guard let part = tensors.foreign.first else { return }
        throw Failure(
            .badData,
            "\(path): holds \(quoted(part)), which MAE's ViT does not have: it is a relative of it that dmae does not run; use "
                + "weights of a plain ViT")
    }

    /// - Throws: `Failure.badData` where a tensor of the encoder, or of the decoder that is there, is missing or of
    ///   another shape than the others say, or where the file holds parts that MAE's ViT does not have.
    public func requireWhole() throws {
        try requireKnownParts()
        func check(_ name: String, _ shape: [Int]) throws {
            guard let entry = tensors[name] else {
                throw Failure(.badData, "\(path): the tensor \(name) is missing; use weights that were saved whole")
            }
            guard entry.shape == shape else {
                throw Failure(
                    .badData,
                    "\(path): \(name) has shape \(entry.shape), but the others make it \(shape); download or write the file again"
                )
            }
        }
        func layer(_ name: String, _ inputs: [Int], _ outputs: Int) throws {
            try check("\(name).weight", [outputs] + inputs)
            try check("\(name).bias", [outputs])
        }
        func blocks(_ name: String, _ depth: Int, _ width: Int) throws {
            for block in (0..<depth).map({ "\(name).\($0)" }) {
                try layer("\(block).norm1", [], width)
                try layer("\(block).attn.qkv", [width], 3 * width)
                try layer("\(block).attn.proj", [width], width)
                try layer("\(block).norm2", [], width)
                try layer("\(block).mlp.fc1", [width], 4 * width)
                try layer("\(block).mlp.fc2", [4 * width], width)
            }
        }
        let width = encoder.width
        try check("cls_token", [1, 1, width])
        try check("pos_embed", [1, tensors["pos_embed"]?.shape[1] ?? 0, width])
        try layer("patch_embed.proj", [encoder.channels, encoder.patchSize, encoder.patchSize], width)
        try blocks("blocks", encoder.depth, width)
        // One is enough; forms that keep names may hold both.
        if tensors.holdsLayer("fc_norm") { try layer("fc_norm", [], width) }
        if tensors.holdsLayer("norm") || !tensors.holdsLayer("fc_norm") { try layer("norm", [], width) }
        if let classes, tensors["head.weight"] != nil { try layer("head", [width], classes) }
        guard let decoder else { return }
        try layer("decoder_embed", [width], decoder.width)
        try check("mask_token", [1, 1, decoder.width])
        try check("decoder_pos_embed", [1, tensors["pos_embed"]?.shape[1] ?? 0, decoder.width])
        try blocks("decoder_blocks", decoder.depth, decoder.width)
        try layer("decoder_norm", [], decoder.width)
        try layer("decoder_pred", [decoder.width], encoder.patchElements)
    }

    /// - Throws: `Failure.badData` where there is no decoder.
    public func requireDecoder() throws {
        guard decoder == nil else { return }
        throw Failure(
            .badData,
            "\(path): holds no decoder (decoder_pred.weight is missing), so it cannot reconstruct: use weights that were saved with "
                + "theirs, such as mae_visualize_vit_large.pth; an encoder alone is enough for `dmae distill --teacher`"
        )
    }

    /// The encoder to be run: what the file says, and of flags what it leaves open.
    ///
    /// - Parameters:
    ///   - heads, imageSize: of `--heads` and `--image-size`; nil where they are not given.
    ///   - resampling: whether position tables are resampled to another image size than the file's, which then
    ///     contradicts nothing.
    /// - Throws: `Failure.usage` where a flag is missing, contradicts the file, or does not fit it; `Failure.badData`
    ///   where the file's own sizes cannot be run.
    public func runnableEncoder(
        heads: Int?, imageSize: (height: Int, width: Int)?, resampling: Bool = false
    ) throws -> EncoderConfiguration {
        let completed = try completedEncoder(heads: heads, imageSize: imageSize, resampling: resampling)
        if heads == nil, completed.heads == 0 { throw unknownHeads("--heads") }
        if completed.imageHeight == 0 { throw unknownImageSize() }
        do { try completed.validate(role: "encoder") } catch let failure as Failure {
            throw Failure(heads == nil && imageSize == nil ? .badData : .usage, "\(path): \(failure.message)")
        }
        return completed
    }

    /// The decoder to be run: what the file says, and its heads by `--decoder-heads` where it leaves them open.
    ///
    /// - Throws: `Failure.badData` where there is none that can be run; `Failure.usage` where the flag is missing,
    ///   contradicts the file or does not fit it.
    public func runnableDecoder(heads: Int?) throws -> DecoderConfiguration {
        try requireDecoder()
        guard let completed = try completedDecoder(heads: heads), heads != nil || completed.heads != 0 else {
            throw unknownHeads("--decoder-heads")
        }
        do { try completed.validate() } catch let failure as Failure {
            throw Failure(heads == nil || completed.depth == 0 ? .badData : .usage, "\(path): \(failure.message)")
        }
        return completed
    }

    /// As `runnableEncoder`, but what neither file nor flags say stays unknown.
    func completedEncoder(
        heads: Int?, imageSize: (height: Int, width: Int)?, resampling: Bool = false
    ) throws -> EncoderConfiguration {
        if let heads { try requireUntold(heads, toldHeads, by: "--heads \(heads)") }
        var completed = encoder
        completed.heads = heads ?? completed.heads
        if let imageSize {
            if !resampling || encoder.imageHeight == 0 { try requireFitting(imageSize) }
            (completed.imageHeight, completed.imageWidth) = (imageSize.height, imageSize.width)
        }
        return completed
    }

    /// As `runnableDecoder`, but what neither file nor flag says stays unknown; nil where the file holds no decoder.
    func completedDecoder(heads: Int?) throws -> DecoderConfiguration? {
        if let heads { try requireUntold(heads, toldDecoderHeads, by: "--decoder-heads \(heads)") }
        var completed = decoder
        if let heads { completed?.heads = heads }
        return completed
    }

    private func unknownHeads(_ flag: String) -> Failure {
        Failure(
            .usage, "\(flag) is needed: \(path) does not say the number of attention heads, and no preset has its width"
        )
    }

    /// - Parameter reader: what needs to know the size, for a model that is only written.
    func unknownImageSize(neededBy reader: String? = nil) -> Failure {
        let clue = tensors["pos_embed"] == nil ? "it has no position table" : "its patches form no square"
        let rest = reader.map { ", \(clue), and \($0) needs it" } ?? ", and \(clue)"
        return Failure(.usage, "--image-size is needed: \(path) does not say the image size" + rest)
    }

    /// Refuses heads of the encoder that `flag`, as it was given, leads to, where the file says that they are others.
    public func requireUntold(_ heads: Int, by flag: String) throws { try requireUntold(heads, toldHeads, by: flag) }

    /// Refuses a width of the encoder that `flag`, as it was given, leads to, where the file's tensors have another.
    public func requireWidth(_ width: Int, by flag: String) throws {
        guard width != encoder.width else { return }
        throw Failure(.usage, "\(flag) contradicts \(path), whose width is \(encoder.width): leave it out")
    }

    /// Refuses blocks of the encoder that `flag`, as it was given, asks for, where the file holds fewer.
    public func requireBlocks(_ depth: Int, by flag: String) throws {
        guard depth > encoder.depth else { return }
        throw Failure(
            .usage,
            "\(flag) contradicts \(path), which holds \(Self.counted(encoder.depth, "block")): leave it out, or lower it"
        )
    }

    private func requireUntold(_ heads: Int, _ told: Int?, by flag: String) throws {
        guard let told, heads != told else { return }
        throw Failure(.usage, "\(flag) contradicts \(path), which says that it has \(told) heads: leave it out")
    }

    /// - Throws: `Failure.usage` where images of that size are not those of the file.
    private func requireFitting(_ size: (height: Int, width: Int)) throws {
        let (height, width, side) = (size.height, size.width, encoder.patchSize)
        let flag = "--image-size \(height)x\(width)"
        // First, so that no product of the sides overflows.
        let sides = 1...Shapes.largestSide
        guard sides.contains(height), sides.contains(width), height % side == 0, width % side == 0 else {
            throw Failure(
                .usage,
                "\(flag) does not fit \(path): choose multiples of its patches' \(side) pixels, up to \(Shapes.largestSide)"
            )
        }
        if imageSizeIsTold, (height, width) != (encoder.imageHeight, encoder.imageWidth) {
            throw Failure(
                .usage,
                "\(flag) contradicts \(path), whose images are of \(encoder.imageHeight)×\(encoder.imageWidth) pixels: leave it "
                    + "out")
        }
        let patches = height / side * (width / side)
        if let table = tensors["pos_embed"], table.shape[1] != 1 + patches {
            throw Failure(
                .usage,
                "\(flag) makes \(patches) patches of \(side) pixels, but \(path) has positions for \(table.shape[1] - 1): name the "
                    + "size it was trained on")
        }
    }

    /// What the file's name says of how the decoder was trained, where nothing in it does: only a hint.
    public var hint: String? {
        guard decoder != nil, normalizePixels == nil else { return nil }
        let name = path.split(separator: "/").last.map(String.init) ?? path
        if name.hasPrefix("mae_pretrain_vit_"), name.contains("_full") {
            return
                "its name is that of MAE's file for normalised pixels, which the tensors do not show: --normalize-pixels fits it"
        }
        if name.hasPrefix("mae_visualize_vit_") {
            return "its name is that of MAE's file for raw pixels, which the tensors do not show"
        }
        return nil
    }

    /// The form of the file, its naming scheme and the sizes, on one line for a person.
    public var summary: String { "\(path): \(tensors.form), \(tensors.detection.description); \(architecture)" }

    /// The sizes on one line for a person.
    public var architecture: String {
        func heads(_ count: Int) -> String { count == 0 ? "heads unknown" : Self.counted(count, "head") }
        let preset = Preset.encoders.first {
            $0.width == encoder.width && $0.depth == encoder.depth && $0.patchSize == encoder.patchSize
        }
        var parts = [
            "\(preset?.name ?? "ViT") of width \(encoder.width), \(Self.counted(encoder.depth, "block")), \(heads(encoder.heads)), patches "
                + "of \(encoder.patchSize) pixels, "
                + (encoder.imageHeight == 0
                    ? "image size unknown" : "images of \(encoder.imageHeight)×\(encoder.imageWidth)")
                + ", \(Self.counted(encoder.channels, "channel"))"
        ]
        if let decoder {
            parts.append(
                "decoder of width \(decoder.width), \(Self.counted(decoder.depth, "block")), \(heads(decoder.heads))")
        } else {
            parts.append("no decoder")
        }
        if projectionHeads > 0 { parts.append(Self.counted(projectionHeads, "projection head")) }
        if let classes { parts.append("a head of \(Self.counted(classes, "class", "es"))") }
        return parts.joined(separator: "; ")
    }

    private static func counted(_ count: Int, _ noun: String, _ plural: String = "s") -> String {
        "\(count) \(noun)\(count == 1 ? "" : plural)"
    }
}

/// Sizes read off shapes.
private struct Shapes {
    let tensors: ModelTensors
    let path: String

    init(_ tensors: ModelTensors, path: String) {
        self.tensors = tensors
        self.path = path
    }

    func encoder(_ told: EncoderConfiguration?, _ configuration: HuggingFaceConfiguration?, heads: Int?) throws
        -> (encoder: EncoderConfiguration, sizeIsTold: Bool)
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
        if let table = tensors["pos_embed"] {
            guard table.shape.count == 3, table.shape[0] == 1, table.shape[2] == width, table.shape[1] > 1 else {
                throw Failure(
                    .badData,
                    "\(path): its position table has shape \(table.shape), but an MAE's has [1, 1 + patches, \(width)]")
            }
            (height, imageWidth, isTold) = size(
                patches: table.shape[1] - 1, side: side,
                [
                    (told?.imageHeight, told?.imageWidth),
                    (configuration?.imageSize?.height, configuration?.imageSize?.width),
                ])
        } else if let told {
            (height, imageWidth) = (told.imageHeight, told.imageWidth)
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
        return (encoder, isTold)
    }

    func decoder(heads: Int?) throws -> DecoderConfiguration? {
        guard tensors["decoder_pred.weight"] != nil else { return nil }
        let width = try shape("decoder_embed.weight", 2)[0]
        let depth = try depth("decoder_blocks", width: width)
        let heads = heads ?? Preset.decoders.first { $0.width == width }?.heads
        try check(heads: heads, width: width)
        return DecoderConfiguration(width: width, depth: depth, heads: heads ?? 0)
    }

    /// No picture that is decoded has a longer side.
    static let largestSide = 1 << 20

    private func check(heads: Int?, width: Int) throws {
        guard let heads else { return }
        guard heads > 0, width % heads == 0 else {
            throw Failure(
                .badData,
                "\(path): says of itself, or in config.json, that it has \(heads) attention heads, which do not divide its width of "
                    + "\(width)")
        }
    }

    /// Blocks of a numbered series, which must have no gap, and the hidden width of four times theirs.
    private func depth(_ name: String, width: Int) throws -> Int {
        let depth = count(name, marks: ["norm1.weight"])
        if let beyond = tensors.names.first(where: { number($0, of: name).map { $0 >= depth } == true }) {
            throw Failure(
                .badData,
                "\(path): holds \(beyond) but no \(name).\(depth).norm1.weight: blocks are missing; download or write the "
                    + "file again")
        }
        if let hidden = tensors["\(name).0.mlp.fc1.weight"]?.shape.first,
            !width.multipliedReportingOverflow(by: 4).overflow,
            hidden != 4 * width
        {
            throw Failure(
                .badData,
                "\(path): the hidden width of its blocks is \(hidden), but MAE's ViT has four times the width, \(4 * width): use "
                    + "weights of a plain ViT")
        }
        return depth
    }

    /// How many of 0, 1, 2 … are there, each known by one of `marks`.
    func count(_ name: String, marks: [String]) -> Int {
        (0...).first { index in marks.allSatisfy { tensors["\(name).\(index).\($0)"] == nil } }!
    }

    private func number(_ tensor: String, of name: String) -> Int? {
        guard tensor.hasPrefix(name + ".") else { return nil }
        return tensor.dropFirst(name.count + 1).split(separator: ".").first.flatMap { Int($0) }
    }

    /// The first of `told` that has so many patches, else the square; 0 × 0 where there is none.
    private func size(patches: Int, side: Int, _ told: [(Int?, Int?)]) -> (Int, Int, Bool) {
        for case (let height?, let width?) in told
        where side > 0 && height > 0 && width > 0 && height % side == 0 && width % side == 0 {
            let (product, overflow) = (height / side).multipliedReportingOverflow(by: width / side)
            if !overflow, product == patches { return (height, width, true) }
        }
        let rows = Int(Double(patches).squareRoot().rounded())
        let (square, overflow) = rows.multipliedReportingOverflow(by: rows)
        guard !overflow, square == patches, !rows.multipliedReportingOverflow(by: side).overflow else {
            return (0, 0, false)
        }
        return (rows * side, rows * side, false)
    }

    private func shape(_ name: String, _ dimensions: Int) throws -> [Int] {
        guard let entry = tensors[name] else {
            throw Failure(.badData, "\(path): the tensor \(name) is missing; use weights that were saved whole")
        }
        guard entry.shape.count == dimensions else {
            throw Failure(.badData, "\(path): \(name) has \(entry.shape.count) dimensions instead of \(dimensions)")
        }
        // Then the file is as large as the shape, and no product of its dimensions overflows.
        guard entry.count > 0 else {
            throw Failure(.badData, "\(path): \(name) is empty; use weights that were saved whole")
        }
        return entry.shape
    }
}
