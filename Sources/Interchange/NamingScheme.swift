import Models

/// A tool's names for the tensors of a Vision Transformer: a table that is used in both directions.
///
/// MAE's names are the canonical ones. A rule maps a canonical name to the tool's name, or to three names if the tool
/// separates query, key and value, which are the row-thirds of MAE's `qkv`. In names, "#" matches a block's number and
/// "*" matches `weight` or `bias`.
public struct NamingScheme: Equatable, Sendable {
    /// For people: "MAE", "timm", "Hugging Face", "mmpretrain".
    public let name: String
    let rules: [Rule]

    /// One row of the table.
    struct Rule: Equatable, Sendable {
        let canonical: Pattern
        /// The tool's name, or three for row-thirds.
        let own: [Pattern]

        init(_ canonical: String, _ own: String...) {
            self.canonical = Pattern(canonical)
            self.own = own.map(Pattern.init)
        }
    }

    /// A name in which "#" matches a number and "*" matches `weight` or `bias`.
    struct Pattern: Equatable, Sendable {
        let parts: [Substring]

        init(_ text: String) {
            parts = text.split(separator: ".")
        }

        /// The values of "#" and "*" in `name`; nil if the pattern does not match.
        func match(_ name: [Substring]) -> [Substring]? {
            guard name.count == parts.count else { return nil }
            var values: [Substring] = []
            for (part, found) in zip(parts, name) {
                switch part {
                case "#":
                    guard !found.isEmpty, found.utf8.allSatisfy({ (0x30...0x39).contains($0) }),
                        found == "0" || found.first != "0"
                    else { return nil }
                    values.append(found)
                case "*":
                    guard found == "weight" || found == "bias" else { return nil }
                    values.append(found)
                default:
                    guard part == found else { return nil }
                }
            }
            return values
        }

        /// The name with "#" and "*" replaced by `values`.
        func filled(_ values: [Substring]) -> String {
            var rest = values[...]
            return parts.map { $0 == "#" || $0 == "*" ? rest.removeFirst() : $0 }.joined(separator: ".")
        }
    }

    /// The canonical name of a tool's tensor.
    public struct Canonical: Equatable, Sendable {
        /// MAE's name.
        public let name: String
        /// The row-third of the canonical tensor (0 query, 1 key, 2 value); nil for the whole tensor.
        public let third: Int?
    }

    /// MAE's name for `name`; nil if the scheme has no such tensor.
    public func canonical(_ name: String) -> Canonical? {
        let parts = name.split(separator: ".", omittingEmptySubsequences: false)
        for rule in rules {
            for (index, pattern) in rule.own.enumerated() {
                guard let values = pattern.match(parts) else { continue }
                return Canonical(name: rule.canonical.filled(values), third: rule.own.count == 1 ? nil : index)
            }
        }
        return nil
    }

    /// The scheme's name for MAE's `name`, or three for row-thirds in order; empty if the scheme has no such tensor.
    public func names(_ name: String) -> [String] {
        let parts = name.split(separator: ".", omittingEmptySubsequences: false)
        for rule in rules {
            if let values = rule.canonical.match(parts) { return rule.own.map { $0.filled(values) } }
        }
        return []
    }

    /// The tensor by which the scheme is recognised: every file of the scheme holds it.
    public var anchor: String { names("patch_embed.proj.weight")[0] }

    /// Whether `name`, which the scheme does not have, takes part in a Vision Transformer's computation: as a part of a
    /// block or of the patch embedding, or as one of the tokens and norms of MAE's relatives.
    func computes(_ name: String) -> Bool {
        let parts = name.split(separator: ".", omittingEmptySubsequences: false)
        for rule in rules {
            for pattern in rule.own {
                guard let number = pattern.parts.firstIndex(of: "#"), parts.count > number else { continue }
                if Pattern(pattern.parts[...number].joined(separator: ".")).match(Array(parts[...number])) != nil {
                    return true
                }
            }
        }
        // All of the patch embedding computes.
        let embedding = anchor.split(separator: ".").dropLast(2).joined(separator: ".") + "."
        if name.hasPrefix(embedding) { return true }
        return parts.contains { Self.relatives.contains(String($0)) }
    }

    /// Tokens, norms and tables of DeiT, DINOv2, CLIP and BEiT.
    private static let relatives: Set<String> = [
        "dist_token", "distillation_token", "reg_token", "register_tokens", "norm_pre", "pre_norm", "rel_pos_bias",
        "rope", "det_token", "detection_tokens", "token_type_embeddings", "text_embeddings",
    ]

    /// The sort key of MAE's `name` in a written file: tokens and tables first, then the blocks in order.
    static func order(_ name: String) -> (Int, Int, Int) {
        let parts = name.split(separator: ".", omittingEmptySubsequences: false)
        for (index, rule) in mae.rules.enumerated() {
            guard let values = rule.canonical.match(parts) else { continue }
            let isBlock = parts.first == "blocks" || parts.first == "decoder_blocks"
            let group = isBlock ? mae.rules.firstIndex { $0.canonical.parts.first == parts.first }! : index
            return (group, isBlock ? Int(values[0]) ?? .max : 0, 2 * index + (values.last == "bias" ? 1 : 0))
        }
        return (.max, 0, 0)
    }
}

extension NamingScheme {
    /// The parts of one transformer block.
    private static let blockParts = ModelLayout.blockLayers.map { $0 + ".*" }

    private static let encoderRules =
        ["cls_token", "pos_embed", "patch_embed.proj.*"].map { Rule($0, $0) }
        + blockParts.map { Rule("blocks.#.\($0)", "blocks.#.\($0)") }
        + ["norm.*", "fc_norm.*", "head.*"].map { Rule($0, $0) }

    /// MAE's and DMAE's names: encoder, decoder, projection heads, and the heads of fine-tuning and linear probing.
    public static let mae = NamingScheme(
        name: "MAE",
        rules: encoderRules
            + ["head.0.running_mean", "head.0.running_var", "head.0.num_batches_tracked", "head.1.*"].map {
                Rule($0, $0)
            }
            + ["mask_token", "decoder_pos_embed", "decoder_embed.*"].map { Rule($0, $0) }
            + blockParts.map { Rule("decoder_blocks.#.\($0)", "decoder_blocks.#.\($0)") }
            + ["decoder_norm.*", "decoder_pred.*"].map { Rule($0, $0) }
            + ["", ".fc1", ".fc2"].map { "\(ModelLayout.projectionHeads).#\($0).*" }.map { Rule($0, $0) })

    /// timm's names; those of an encoder are the same as MAE's (timm/models/vision_transformer.py).
    public static let timm = NamingScheme(name: "timm", rules: encoderRules)

    /// Hugging Face's names, ViTMAE's and ViT's (transformers' modeling_vit.py, modeling_vit_mae.py,
    /// conversion_mapping.py).
    ///
    /// The names of published files come first and are the ones written, as every version of transformers reads them.
    /// Version 5 uses other names in memory (`layers.i.attention.q_proj`) and saves a decoder's blocks as
    /// `decoder.decoder_encoder.layer.i`.
    ///
    /// - Parameter prefixed: whether the encoder's names begin with "vit.", as they do beside a decoder or classifier.
    public static func huggingFace(prefixed: Bool) -> NamingScheme {
        func published(_ canonical: String, _ own: String) -> [Rule] {
            let qkv = "\(own).attention.attention"
            return [
                Rule("\(canonical).norm1.*", "\(own).layernorm_before.*"),
                Rule("\(canonical).attn.qkv.*", "\(qkv).query.*", "\(qkv).key.*", "\(qkv).value.*"),
                Rule("\(canonical).attn.proj.*", "\(own).attention.output.dense.*"),
                Rule("\(canonical).norm2.*", "\(own).layernorm_after.*"),
                Rule("\(canonical).mlp.fc1.*", "\(own).intermediate.dense.*"),
                Rule("\(canonical).mlp.fc2.*", "\(own).output.dense.*"),
            ]
        }
        func version5(_ canonical: String, _ own: String) -> [Rule] {
            let qkv = "\(own).attention"
            return [
                Rule("\(canonical).norm1.*", "\(own).layernorm_before.*"),
                Rule("\(canonical).attn.qkv.*", "\(qkv).q_proj.*", "\(qkv).k_proj.*", "\(qkv).v_proj.*"),
                Rule("\(canonical).attn.proj.*", "\(own).attention.o_proj.*"),
                Rule("\(canonical).norm2.*", "\(own).layernorm_after.*"),
                Rule("\(canonical).mlp.fc1.*", "\(own).mlp.fc1.*"),
                Rule("\(canonical).mlp.fc2.*", "\(own).mlp.fc2.*"),
            ]
        }
        let vit = prefixed ? "vit." : ""
        let encoder =
            [
                Rule("cls_token", "\(vit)embeddings.cls_token"),
                Rule("pos_embed", "\(vit)embeddings.position_embeddings"),
                Rule("patch_embed.proj.*", "\(vit)embeddings.patch_embeddings.projection.*"),
            ] + published("blocks.#", "\(vit)encoder.layer.#") + version5("blocks.#", "\(vit)layers.#")
            + [Rule("norm.*", "\(vit)layernorm.*"), Rule("head.*", "classifier.*")]
        let decoder =
            ["mask_token", "decoder_pos_embed", "decoder_embed.*"].map { Rule($0, "decoder.\($0)") }
            + published("decoder_blocks.#", "decoder.decoder_layers.#")
            + version5("decoder_blocks.#", "decoder.decoder_layers.#")
            + published("decoder_blocks.#", "decoder.decoder_encoder.layer.#")
            + ["decoder_norm.*", "decoder_pred.*"].map { Rule($0, "decoder.\($0)") }
        return NamingScheme(name: "Hugging Face", rules: encoder + decoder)
    }

    /// mmpretrain's names (mmpretrain/models/backbones/vision_transformer.py, necks/mae_neck.py); mmselfsup's are the
    /// same.
    public static let mmpretrain = mmpretrain(prefixed: true)

    /// - Parameter prefixed: whether the encoder's names begin with "backbone."; the tool that extracts a backbone leaves
    ///   that out.
    private static func mmpretrain(prefixed: Bool) -> NamingScheme {
        let backbone = prefixed ? "backbone." : ""
        let encoder =
            [
                Rule("cls_token", "\(backbone)cls_token"),
                Rule("pos_embed", "\(backbone)pos_embed"),
                Rule("patch_embed.proj.*", "\(backbone)patch_embed.projection.*"),
            ] + mmpretrainBlock("blocks.#", "\(backbone)layers.#") + [
                Rule("norm.*", "\(backbone)ln1.*"),
                Rule("fc_norm.*", "\(backbone)ln2.*"),
            ]
        let others =
            [
                // The head of the MAE recipes, then the head of the ViT backbone's recipes.
                Rule("head.*", "head.fc.*"),
                Rule("head.*", "head.layers.head.*"),
                Rule("mask_token", "neck.mask_token"),
                Rule("decoder_pos_embed", "neck.decoder_pos_embed"),
                Rule("decoder_embed.*", "neck.decoder_embed.*"),
            ] + mmpretrainBlock("decoder_blocks.#", "neck.decoder_blocks.#") + [
                Rule("decoder_norm.*", "neck.ln1.*"),
                Rule("decoder_pred.*", "neck.decoder_pred.*"),
            ]
        return NamingScheme(name: "mmpretrain", rules: encoder + (prefixed ? others : []))
    }

    private static func mmpretrainBlock(_ canonical: String, _ own: String) -> [Rule] {
        zip(blockParts, ["ln1.*", "attn.qkv.*", "attn.proj.*", "ln2.*", "ffn.layers.0.0.*", "ffn.layers.1.*"]).map {
            Rule("\(canonical).\($0)", "\(own).\($1)")
        }
    }

    /// All schemes that are recognised.
    public static let all: [NamingScheme] = [
        mae, timm, huggingFace(prefixed: true), huggingFace(prefixed: false), mmpretrain, mmpretrain(prefixed: false),
    ]
}
