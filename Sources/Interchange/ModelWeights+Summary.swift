import Models
import Reporting
import Weights

extension ModelWeights {
    /// How the decoder was trained according to the file's name; nil if the file itself states it, or the name is not
    /// one of MAE's. Only a hint.
    public var hint: Message? {
        guard decoder != nil, normalizePixels == nil else { return nil }
        let name = path.split(separator: "/").last.map(String.init) ?? path
        if name.hasPrefix("mae_pretrain_vit_"), name.contains("_full") {
            return
                "its name is that of MAE's file for normalised pixels, which the tensors do not show: "
                + "\(.normalizePixels) fits it"
        }
        if name.hasPrefix("mae_visualize_vit_") {
            return "its name is that of MAE's file for raw pixels, which the tensors do not show"
        }
        return nil
    }

    /// Format of the file, naming scheme and sizes, on one line for a person.
    public var summary: String { "\(place): \(tensors.form), \(tensors.detection.description); \(architecture)" }

    /// The path as it was given, and where in such a folder the file is if it is not directly there.
    private var place: String {
        let folder = path.hasSuffix("/") ? path : path + "/"
        guard tensors.path.hasPrefix(folder) else { return path }
        let rest = tensors.path.dropFirst(folder.count)
        if let step = CheckpointName.step(of: String(rest)) {
            return "\(path) (its newest checkpoint, of step \(step))"
        }
        // A classifier's run has two files.
        let best = folder + "best.safetensors"
        if rest == "model.safetensors", (try? fileStatus(best)) ?? nil != nil {
            return "\(path) (model.safetensors, its last weights; \(best) has those of its best evaluation)"
        }
        return rest.contains("/") ? "\(path) (\(rest))" : path
    }

    /// The sizes on one line for a person.
    public var architecture: String {
        func heads(_ count: Int) -> String { count == 0 ? "heads unknown" : Self.counted(count, "head") }
        let preset = Preset.encoders.first {
            $0.width == encoder.width && $0.depth == encoder.depth && $0.patchSize == encoder.patchSize
        }
        var parts = [
            "\(preset?.name ?? "ViT") of width \(encoder.width), \(Self.counted(encoder.depth, "block")), "
                + "\(heads(encoder.heads)), patches "
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
        if let classes {
            let names = classNames.map { " (\(Self.first($0)))" } ?? ""
            parts.append("a head of \(Self.counted(classes, "class", "es"))\(names)")
        }
        if tensors.hasProjection { parts.append("a projection head, which is left out") }
        return parts.joined(separator: "; ")
    }

    /// The first names of a list, for a person: "ant, bee, cat, …".
    static func first(_ names: [String], _ most: Int = 3) -> String {
        names.prefix(most).joined(separator: ", ") + (names.count > most ? ", …" : "")
    }

    static func counted(_ count: Int, _ noun: String, _ plural: String = "s") -> String {
        "\(count) \(noun)\(count == 1 ? "" : plural)"
    }
}
