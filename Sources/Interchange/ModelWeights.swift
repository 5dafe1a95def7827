import FoundationEssentials
import Images
import Models
import Reporting
import Weights

/// A model recognised in a file of weights: its tensors under MAE's names, and its sizes.
///
/// The words for weights, from the file to the memory of a run:
/// - `WeightFile` is a file (or several shards): named tensors, whatever they are. `WeightFiles.open` finds its format.
/// - `CanonicalWeightFile` is the part of such a file that is one model, under MAE's names.
/// - `ModelWeights` is that part together with the model's sizes. Still nothing is read but names, shapes and metadata.
/// - `Parameters` are weights in memory, allocated for a configuration. `Parameters.load` copies them from a file.
/// - `ModelLayout` lists names and shapes for given sizes; it holds no values.
///
/// Sizes come from the shapes of the tensors, from the file's metadata, and from a `config.json` beside it. Shapes do
/// not tell the number of heads or the height and width of the patch grid. Heads are those of the metadata, else of
/// `config.json`, else of a preset of the same width. The grid is that of the metadata, else of `config.json`, if it
/// has as many patches as the position table; otherwise it is assumed to be square.
public final class ModelWeights: Sendable {
    /// The path as it was given: a file or a folder.
    public let path: String
    /// The tensors under MAE's names; converted and joined when they are read.
    public let tensors: CanonicalWeightFile
    /// `heads` is 0 if unknown. The image size is 0 × 0 if unknown: without a position table, or with one whose patches
    /// form no square.
    public let encoder: EncoderConfiguration
    /// Whether metadata or `config.json` states the image size; otherwise it is guessed from the number of patches.
    public let imageSizeIsTold: Bool
    /// Nil if the file holds no decoder. Its `heads` are 0 if unknown.
    public let decoder: DecoderConfiguration?
    /// The rows of the position table.
    let positionRows: PositionRows
    /// Whether positions are MAE's formula, so that a file may leave the table out.
    let hasComputedPositions: Bool
    /// Heads stated by metadata or `config.json`; nil if they are a preset's, or unknown.
    let toldHeads, toldDecoderHeads: Int?
    /// Fraction of patches removed in training; nil if the file does not state it.
    public let maskRatio: Double?
    /// Whether the decoder was trained on standardised patches; nil if the file does not state it.
    public let normalizePixels: Bool?
    /// Outputs of the classifier; nil without one.
    public let classes: Int?
    /// The names of the classes, in the order of the head's outputs; nil without a head, or if nothing states them.
    /// The metadata state them, the `config.json` of transformers (`id2label`) or that of timm (`label_names`).
    public let classNames: [String]?
    /// What timm's `config.json` says of the feature that the head reads, such as `token` or `avg`; nil without one.
    let timmPool: String?
    /// How pictures are prepared, as the run that wrote the weights, their metadata, or the configuration of transformers
    /// or timm in their folder states it; nil if nothing does.
    public let statedPreprocessing: StatedPreprocessing?
    /// How the run that wrote the weights read image files; nil if nothing states it.
    public let pictureReading: PictureReading?
    /// Number of DMAE's projection heads.
    public let projectionHeads: Int

    /// The metadata key of a run's `ModelConfiguration`.
    package static let configurationKey = "dmae.configuration"
    /// The metadata key of a converted model's `Architecture`.
    package static let architectureKey = "dmae.architecture"

    /// The sizes that are written beside the tensors of a converted model.
    package struct Architecture: Codable {
        package var encoder: EncoderConfiguration
        package var decoder: DecoderConfiguration?
        package var maskRatio: Double?
        package var normalizePixels: Bool?

        package init(
            encoder: EncoderConfiguration, decoder: DecoderConfiguration? = nil, maskRatio: Double? = nil,
            normalizePixels: Bool? = nil
        ) {
            self.encoder = encoder
            self.decoder = decoder
            self.maskRatio = maskRatio
            self.normalizePixels = normalizePixels
        }
    }

    /// Opens `path` and recognises the model in it; reads names, shapes and metadata, no values.
    ///
    /// - Parameters:
    ///   - role: which model is meant if the file holds a student and a teacher.
    ///   - prefix: the words before the model's names, which then need not be known ones; nil to look for them.
    /// - Throws: `Failure`: `.inputOutput` if it cannot be read; `.badData` if no naming scheme fits, or the shapes are
    ///   not those of an MAE's ViT.
    public convenience init(path: String, role: NamingScheme.Role = .student, prefix: String? = nil) throws {
        try self.init(WeightFiles.open(path), path: path, role: role, prefix: prefix)
    }

    /// As above, for a file that is open already.
    public init(
        _ file: any WeightFile, path: String, role: NamingScheme.Role = .student, prefix: String? = nil
    ) throws {
        self.path = path
        let names = ModelNames(file.names)
        let stated = try StatedModel.read(beside: file.path, isFolder: path != file.path)
        let detection = Result { try NamingScheme.detect(file.entries, names, in: path, role: role, prefix: prefix) }
        // A prefix that is not there says nothing of the family.
        if prefix == nil || (try? detection.get()) != nil {
            let evidence = ModelFamily.Evidence(file, names, try? detection.get())
            if let family = ModelFamily.find(evidence, modelType: stated?.modelType) {
                throw family.refusal(path, stated: stated?.phrase)
            }
            if evidence.isForeign, let refusal = stated?.refusal(path) { throw refusal }
        }
        do { tensors = try CanonicalWeightFile(file, names, detection.get()) } catch {
            throw stated?.refusal(path) ?? error
        }
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
        let timmFolder =
            try isHuggingFace || !Self.isModelOfFolder(path)
            ? nil : try TimmConfiguration.read(beside: file.path, isItsOwn: true)
        let timmSizes = timmFolder?.sizes(width: tensors["patch_embed.proj.weight"]?.shape.first)
        toldHeads = Self.known(told?.encoder.heads) ?? configuration?.numAttentionHeads ?? timmSizes?.numHeads
        toldDecoderHeads = Self.known(told?.decoder?.heads) ?? configuration?.decoderNumAttentionHeads
        let sizes = ModelSizes(tensors, path: path)
        do {
            (encoder, imageSizeIsTold, positionRows) = try sizes.encoder(
                told?.encoder.imageSize ?? timmSizes?.imgSize, configuration, heads: toldHeads)
        } catch {
            if let refusal = stated?.refusal(path) { throw refusal }
            // Sizes of a relative say less than its parts.
            try Self.requireParts(tensors, path)
            throw error
        }
        hasComputedPositions = told != nil || tensors.holdsLayer("decoder_pred")
        decoder = try sizes.decoder(heads: toldDecoderHeads)
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
        var timm =
            isHuggingFace || classes == nil
            ? nil : try TimmConfiguration.read(beside: file.path, isItsOwn: Self.isModelOfFolder(path))
        // One of another number of classes belongs to other weights in the folder.
        if timm?.numClasses != nil, timm?.numClasses != classes { timm = nil }
        timmPool = timm?.globalPool
        let pictures = try Self.pictures(of: file, path: path)
        pictureReading = pictures?.0.reading
        statedPreprocessing = try Self.statedPreprocessing(
            pictures, of: file, path: path, encoder, classes: classes)
        classNames = try classes.flatMap {
            try Self.classNames(of: file, path: path, count: $0, configuration, timm)
        }
        projectionHeads = sizes.count(ModelLayout.projectionHeads, marks: ["weight", "fc1.weight"])
    }

    private static func decoded<Value: Decodable>(_ type: Value.Type, _ text: String?) -> Value? {
        text.flatMap { try? JSONDecoder().decode(type, from: Data($0.utf8)) }
    }

    /// A converted file states 0 heads if they were unknown.
    private static func known(_ heads: Int?) -> Int? { heads == 0 ? nil : heads }
}
