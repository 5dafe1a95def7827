import Models
import Reporting
import Weights

extension Conversion {
    /// Writes the folder that timm's `local-dir:` loads: the weights and `config.json`.
    ///
    /// - Throws: as `write(to:)`.
    func writeTimmFolder(_ path: String) throws {
        try writeFolder(path, form: "timm", [timmConfiguration.sortedJSON(indented: true) + [0x0A]])
    }

    /// `config.json`, as timm's `save_for_hf` writes it.
    private struct Timm: Encodable {
        struct Arguments: Encodable {
            var depth, embed_dim: Int
            var fc_norm: Bool?
            var global_pool: String
            var img_size: [Int]
            var in_chans, num_classes, num_heads, patch_size: Int
        }
        struct Preparation: Encodable {
            var classifier = "head"
            var crop_mode: String
            var crop_pct: Double
            var first_conv = "patch_embed.proj"
            var fixed_input_size = true
            var input_size: [Int]
            var interpolation: String
            var mean: [Float]
            var num_classes: Int
            var std: [Float]
        }
        var architecture: String
        var global_pool: String
        var label_names: [String]?
        var model_args: Arguments
        var num_classes, num_features: Int
        var pretrained_cfg: Preparation
    }

    /// How timm loads what is written.
    func timmAdvice(isFolder: Bool) -> Message {
        if isFolder {
            return "timm loads it by timm.create_model(\"local-dir:…\", pretrained=True), with the path of the folder"
        }
        // Of the model called so, what is another here.
        let (preset, depth, heads, patch) = timmPreset
        let isPreset = (depth, heads, patch) == (encoder.depth, encoder.heads, encoder.patchSize)
        var arguments: [String] = []
        if encoder.imageHeight > 0, encoder.imageSize != ImageSize(height: 224, width: 224) {
            arguments.append(
                "img_size=\(encoder.imageHeight == encoder.imageWidth ? "\(encoder.imageHeight)" : "(\(encoder.imageHeight), \(encoder.imageWidth))")"
            )
        }
        if !isPreset {
            arguments += ["patch_size=\(encoder.patchSize)", "embed_dim=\(encoder.width)", "depth=\(encoder.depth)"]
            arguments.append("num_heads=\(encoder.heads > 0 ? "\(encoder.heads)" : "…")")
        }
        if encoder.channels != 3 { arguments.append("in_chans=\(encoder.channels)") }
        arguments.append("num_classes=\(classes ?? 0)")
        if timmPool.name != "token" { arguments.append("global_pool=\"\(timmPool.name)\"") }
        if let isNormed = timmPool.hasNorm { arguments.append("fc_norm=\(isNormed ? "True" : "False")") }
        // A file does not say how pictures are prepared, and timm would take what it has for that name.
        if encoder.imageHeight > 0 {
            func list(_ values: [Float]) -> String { "(\(values.map { "\($0)" }.joined(separator: ", ")),)" }
            let crop = preprocessing.crop
            let share = Format.shortest(crop.fraction(width: encoder.imageWidth, height: encoder.imageHeight))
            arguments.append(
                "pretrained_cfg_overlay=dict(input_size=(\(encoder.channels), \(encoder.imageHeight), \(encoder.imageWidth)), "
                    + "mean=\(list(preprocessing.normalisation.mean)), std=\(list(preprocessing.normalisation.deviation)), "
                    + "crop_pct=\(share)\(crop.squashes ? ", crop_mode=\"squash\"" : ""), "
                    + "interpolation=\"\(preprocessing.interpolation.rawValue)\")")
        }
        return
            "timm loads it by timm.create_model(\"\(preset)\", \(arguments.joined(separator: ", ")), checkpoint_path=\"…\")"
    }

    /// timm's names of what the head, or a user of the features, reads, and whether its norm is not that of timm's default,
    /// which follows the pool.
    private var timmPool: (name: String, hasNorm: Bool?) {
        let holdsMean = weights.tensors.holdsLayer("fc_norm") && !weights.tensors.holdsLayer("norm")
        let pool = holdsMean || weights.timmPool == "avg" ? "avg" : "token"
        return (pool, holdsMean == (pool == "avg") ? nil : holdsMean)
    }

    private var timmConfiguration: Timm {
        get throws {
            if encoder.heads == 0 {
                throw Self.unknown(.heads, encoder.width, weights.path, neededBy: "timm's config.json")
            }
            guard encoder.imageHeight > 0 else { throw weights.unknownImageSize(neededBy: "timm's config.json") }
            let outputs = classes ?? 0
            let (pool, hasNorm) = timmPool
            return Timm(
                architecture: timmPreset.name, global_pool: pool, label_names: classNames,
                model_args: Timm.Arguments(
                    depth: encoder.depth, embed_dim: encoder.width,
                    fc_norm: hasNorm, global_pool: pool,
                    img_size: [encoder.imageHeight, encoder.imageWidth], in_chans: encoder.channels,
                    num_classes: outputs, num_heads: encoder.heads, patch_size: encoder.patchSize),
                num_classes: outputs, num_features: encoder.width,
                pretrained_cfg: Timm.Preparation(
                    crop_mode: preprocessing.crop.squashes ? "squash" : "center",
                    crop_pct: preprocessing.crop.fraction(width: encoder.imageWidth, height: encoder.imageHeight),
                    input_size: [encoder.channels, encoder.imageHeight, encoder.imageWidth],
                    interpolation: preprocessing.interpolation.rawValue, mean: preprocessing.normalisation.mean,
                    num_classes: outputs, std: preprocessing.normalisation.deviation))
        }
    }

    /// The timm model that `model_args` change, with its depth, heads and patch: one of about the size, which is only a
    /// starting point.
    private var timmPreset: (name: String, depth: Int, heads: Int, patch: Int) {
        let names = [
            (192, 16, "vit_tiny_patch16_224"), (384, 16, "vit_small_patch16_224"), (384, 32, "vit_small_patch32_224"),
            (384, 8, "vit_small_patch8_224"), (768, 16, "vit_base_patch16_224"), (768, 32, "vit_base_patch32_224"),
            (768, 8, "vit_base_patch8_224"), (1024, 16, "vit_large_patch16_224"), (1024, 32, "vit_large_patch32_224"),
            (1024, 14, "vit_large_patch14_224"), (1280, 14, "vit_huge_patch14_224"),
        ]
        guard let own = names.first(where: { $0.0 == encoder.width && $0.1 == encoder.patchSize }) else {
            return ("vit_base_patch16_224", 0, 0, 0)
        }
        let (depth, heads) = [1024: (24, 16), 1280: (32, 16)][own.0] ?? (12, own.0 / 64)
        return (own.2, depth, heads, own.1)
    }
}
