import Models
import Reporting
import Weights

extension ModelWeights {
    /// Whether there is a decoder.
    public var hasDecoder: Bool { decoder != nil }

    /// - Throws: `Failure.badData` if the file holds parts that MAE's ViT does not have. Running it, or renaming its
    ///   tensors for another tool, would make another model of it.
    public func requireKnownParts() throws { try Self.requireParts(tensors, path) }

    /// As above, and a class token.
    static func requireParts(_ tensors: CanonicalWeightFile, _ path: String) throws {
        if tensors["cls_token"] == nil { throw noClassToken(path) }
        guard let part = tensors.foreign.first else { return }
        throw Failure(
            .badData,
            "\(path): holds \(quoted(part)), which MAE's ViT does not have: it is a relative of it that dmae does not "
                + "run; \(ModelFamily.plain)")
    }

    /// Requires that the encoder's tensors are of types that can be read as floating-point numbers.
    ///
    /// - Throws: `Failure.badData`, with the type.
    public func requireReadable() throws {
        guard
            let entry = tensors.entries.first(where: {
                ModelPart(of: $0.name)?.isEncoder == true && !$0.type.isConvertible
            })
        else { return }
        throw FloatConversion.refusal(entry, path: path)
    }

    /// - Throws: `Failure.badData` if a tensor of the encoder, of a classifier or of a decoder that is there is missing
    ///   or contradicts the sizes, or if the file holds parts that MAE's ViT does not have.
    public func requireWhole() throws {
        try requireKnownParts()
        if let entry = tensors.entries.first(where: { $0.type == .opaque }) {
            throw FloatConversion.refusal(entry, path: path)
        }
        if tensors["cls_token"] == nil { try requirePositions() }
        for wanted in layout.entries {
            guard let entry = tensors[wanted.name] else {
                throw Failure(
                    .badData, "\(path): the tensor \(wanted.name) is missing; use weights that were saved whole")
            }
            guard entry.shape == wanted.shape else {
                throw Failure(
                    .badData,
                    "\(path): \(wanted.name) has shape \(entry.shape), but the others make it \(wanted.shape); "
                        + "download or write "
                        + "the file again")
            }
        }
    }

    /// The tensors that a whole file of these sizes holds; projection heads are not among them.
    private var layout: ModelLayout {
        let patches = tensors["pos_embed"].map { $0.shape[1] - 1 }
        // One of the two norms is enough; files converted to MAE's or timm's names may hold both.
        let hasMeanNorm = tensors.holdsLayer("fc_norm")
        let norms = (hasMeanNorm ? ["fc_norm"] : []) + (tensors.holdsLayer("norm") || !hasMeanNorm ? ["norm"] : [])
        var layout = ModelLayout.encoder(encoder, patches: patches, norms: norms)
        if let classes, tensors["head.weight"] != nil {
            layout += .classHead(width: encoder.width, classes: classes)
        }
        if let decoder { layout += .decoder(decoder, of: encoder, patches: patches) }
        return layout
    }

    /// - Throws: `Failure.badData` if there is no decoder.
    public func requireDecoder() throws {
        guard decoder == nil else { return }
        throw Failure(
            .badData,
            "\(path): holds no decoder (decoder_pred.weight is missing), so it cannot reconstruct: use weights that "
                + "were saved with "
                + "theirs, such as mae_visualize_vit_large.pth; an encoder alone is enough for `dmae distill "
                + "\(.teacher)`"
        )
    }
}
