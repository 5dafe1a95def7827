import FoundationEssentials
import Models
import Reporting
import Weights

/// A family of models that dmae does not run: its name, how it is recognised, and what makes it different.
///
/// `all` is the one place where families are described; the page about weights lists the same.
public struct ModelFamily: Sendable {
    /// What the model is, to follow "this is": "DINOv2", "a LoRA adapter".
    public let name: String
    /// Values of `model_type` in transformers' config.json.
    public let types: [String]
    /// The tensors by which it is known without a config.json, in words.
    public let telltale: String
    /// What dmae would have to compute, one or more clauses.
    public let difference: String
    /// What the user can do.
    public let remedy: String
    /// Whether its tensors also have the names and the number of a plain Vision Transformer's.
    let isDisguised: Bool
    let isRecognised: @Sendable (Evidence) -> Bool

    init(
        _ name: String, types: [String] = [], telltale: String, difference: String, remedy: String = plain,
        isDisguised: Bool = false, _ isRecognised: @escaping @Sendable (Evidence) -> Bool
    ) {
        self.name = name
        self.types = types
        self.telltale = telltale
        self.difference = difference
        self.remedy = remedy
        self.isDisguised = isDisguised
        self.isRecognised = isRecognised
    }

    static let plain = "use weights of a plain Vision Transformer, such as those of MAE, DINO or ViT"

    /// The sentence that refuses the weights at `path`.
    ///
    /// - Parameter stated: what config.json calls the model, such as `model_type "dinov2"`.
    func refusal(_ path: String, stated: String?) -> Failure {
        Failure(
            .badData,
            "\(path): this is \(name)\(stated.map { " (\($0) in config.json)" } ?? ""), which dmae does not run: "
                + "\(difference); \(remedy)")
    }

    /// Model types whose tensors are those of a plain Vision Transformer.
    static let plainTypes: Set<String> = ["vit", "vit_mae", "vit_msn", "timm_wrapper"]

    /// What a file shows of the family of its model.
    struct Evidence {
        /// The words between the points of the model's names; of all names if no model was found.
        var parts: Set<String> = []
        /// The model's names behind its prefix.
        var own: [String] = []
        /// The words of all names in the file.
        let fileParts: Set<String>
        /// The model's tensors under MAE's names; of row-thirds the first one.
        var tensors: [String: TensorEntry] = [:]
        /// Row-thirds of the first block's bias that are there; nil if its query, key and value are one tensor.
        var thirds: Set<Int>?
        /// Whether there are parts that MAE's ViT does not have, or no model was found.
        var isForeign = true
        /// The `__metadata__` of safetensors.
        let metadata: [String: String]

        init(_ file: any WeightFile, _ names: ModelNames, _ detection: NamingScheme.Detection?) {
            metadata = file.metadata
            func words(_ names: some Sequence<String>) -> Set<String> {
                var words: Set<String> = []
                for name in names { for part in name.split(separator: ".") { words.insert(String(part)) } }
                return words
            }
            fileParts = words(names.plain)
            guard let detection else {
                parts = fileParts
                return
            }
            isForeign = false
            for (entry, plain) in zip(file.entries, names.plain) {
                guard let name = detection.own(plain) else { continue }
                own.append(name)
                guard let found = detection.scheme.canonical(name) else {
                    isForeign = isForeign || detection.scheme.computes(name)
                    continue
                }
                tensors[found.name] = tensors[found.name] ?? entry
                if found.name == "blocks.0.attn.qkv.bias", let third = found.third {
                    thirds = (thirds ?? []).union([third])
                }
            }
            parts = words(own)
        }

        func has(_ words: String...) -> Bool { words.contains { parts.contains($0) } }

        var projection: [Int] { tensors["patch_embed.proj.weight"]?.shape ?? [] }
        var hasClassToken: Bool { tensors["cls_token"] != nil }
        var hasRegisters: Bool { has("reg_token", "register_tokens", "storage_tokens") }
        var hasLayerScale: Bool {
            has("ls1", "ls2", "layer_scale1", "layer_scale2", "layer_scale_1", "gamma_1", "gamma1", "lambda_1")
        }
        /// Whether the position table has as many rows as a square of patches, without one for the class token.
        var lacksClassRow: Bool {
            guard let shape = tensors["pos_embed"]?.shape, shape.count == 3, shape[1] > 1 else { return false }
            let side = Int(Double(shape[1]).squareRoot().rounded())
            return side * side == shape[1]
        }
    }

    /// The family of the model in `file`; nil if it may be a plain Vision Transformer, or is not known.
    static func find(_ evidence: Evidence, modelType: String?) -> ModelFamily? {
        if let modelType, let stated = all.first(where: { $0.types.contains(modelType) }) { return stated }
        let isSuspicious =
            evidence.isForeign || !evidence.hasClassToken || evidence.thirds.map { $0.count < 3 } == true
        return all.first { ($0.isDisguised || isSuspicious) && $0.isRecognised(evidence) }
    }

    /// Every family, special ones before general ones.
    public static let all: [ModelFamily] = [
        ModelFamily(
            "a LoRA adapter", telltale: "`lora_A`, `lora_B`",
            difference: "it holds small changes to the weights of another model, not the weights",
            remedy: "merge it into that model first (peft's merge_and_unload) and save the result"
        ) { $0.has("lora_A", "lora_B", "lora_embedding_A", "lora_magnitude_vector") },
        ModelFamily(
            "a shard of PyTorch's FSDP", telltale: "`_flat_param`, `flat_param`",
            difference: "its tensors are pieces of all weights in one row",
            remedy: "save the model again with FSDP's FULL_STATE_DICT"
        ) { $0.fileParts.contains { $0.hasPrefix("_flat_param") || $0.hasPrefix("flat_param") } },
        ModelFamily(
            "a quantised model", telltale: "integers in place of weights; `SCB`, `absmax`, `qweight`, `weight_scale`",
            difference: "its weights are integers with scales beside them",
            remedy: "use the weights that it was made of", isDisguised: true
        ) { evidence in
            evidence.has(
                "SCB", "absmax", "quant_map", "quant_state", "qweight", "qzeros", "weight_scale", "weight_scale_inv",
                "weight_zero_point", "weight_format", "_packed_params", "weight_packed")
                || evidence.tensors.contains {
                    $0.hasPrefix("blocks.") && $0.hasSuffix(".weight") && integers.contains($1.type)
                }
        },
        ModelFamily(
            "a model of MLX, JAX or TensorFlow",
            telltale: "channels in the last place of the patch projection; metadata `format: mlx`",
            difference: "the channels of its patch projection come last, not after the width",
            remedy: "use the PyTorch weights that it was made of", isDisguised: true
        ) { evidence in
            let shape = evidence.projection
            guard shape.count == 4 else { return evidence.metadata["format"] == "mlx" && evidence.isForeign }
            let isChannelsLast = shape[1] == shape[2] && shape[2] != shape[3] && shape[3] <= 4
            let isTensorFlow = shape[0] == shape[1] && shape[1] != shape[2] && shape[2] <= 4
            return isChannelsLast || isTensorFlow
        },
        ModelFamily(
            "a video model",
            types: ["videomae", "vivit", "timesformer", "vjepa2", "x_clip", "xclip", "mvit", "internvideo2"],
            telltale: "a patch projection with a dimension for time; `temporal_attn`, `time_embed`",
            difference: "its patches extend over several frames", isDisguised: true
        ) {
            $0.projection.count == 5
                || $0.has(
                    "temporal_attn", "temporal_norm1", "time_embed", "time_embeddings", "temporal_embed",
                    "pos_embed_temporal", "tubelet_embeddings")
        },
        ModelFamily(
            "a hierarchical or hybrid Vision Transformer",
            types: [
                "vit_hybrid", "hiera", "pvt", "pvt_v2", "levit", "cvt", "mobilevit", "mobilevitv2", "efficientformer",
                "dinat", "nat", "swiftformer", "glpn",
            ],
            telltale: "a convolutional stem within `patch_embed`; `blocks_token_only`, `patch_embed1`, `pool_q`",
            difference: "its stages differ in width or resolution, or convolutions come before its blocks"
        ) { evidence in
            evidence.has("blocks_token_only", "patch_embed1", "reroll", "pool_q", "pool_k")
                || evidence.own.contains {
                    $0.hasPrefix("patch_embed.backbone.") || $0.hasPrefix("patch_embed.stem.")
                        || $0.hasPrefix("patch_embed.conv") || $0.contains("patch_embeddings.backbone.")
                }
        },
        ModelFamily(
            "SAM or ViTDet", types: ["sam", "sam_hq", "sam_vision_model", "sam2", "vitdet"],
            telltale: "`rel_pos_h`, `rel_pos_w`",
            difference: "its attention adds relative positions and works in windows, and it has no class token"
        ) { $0.has("rel_pos_h", "rel_pos_w") },
        ModelFamily(
            "Swin", types: ["swin", "swinv2", "swin2sr", "donut-swin", "maskformer-swin"],
            telltale: "`relative_position_bias_table` and `downsample`, or blocks within layers",
            difference: "its attention works in windows, and its width grows from stage to stage"
        ) {
            $0.has("relative_position_bias_table", "relative_position_index", "relative_coords_table", "cpb_mlp")
                && $0.has("downsample", "reduction", "attn_mask", "logit_scale", "layernorm_before")
        },
        ModelFamily(
            "DINOv3", types: ["dinov3_vit", "dinov3_convnext"],
            telltale: "`rope_embed`, `storage_tokens`, `bias_mask`; register tokens without a position table",
            difference: "it turns queries and keys by their positions (RoPE) instead of a position table, and has "
                + "register tokens beside the class token"
        ) {
            $0.has("rope_embed", "rope_embeddings", "storage_tokens", "bias_mask", "local_cls_norm")
                || ($0.hasRegisters && $0.tensors["pos_embed"] == nil && $0.has("patch_embed", "patch_embeddings"))
        },
        ModelFamily(
            "BEiT, data2vec or EVA", types: ["beit", "data2vec-vision", "eva", "eva02", "eva_clip", "layoutlmv3"],
            telltale:
                "`q_bias` and `v_bias`; `relative_position_bias_table`, `rel_pos_bias`, `gamma_1`; no bias of the key",
            difference: "its keys have no bias, and its attention adds relative positions or turns queries and keys "
                + "(RoPE)"
        ) {
            $0.has("modality_encoders", "inner_attn_ln") || $0.thirds == [0, 2]
                || (!$0.tensors.isEmpty
                    && $0.has(
                        "q_bias", "v_bias", "relative_position_bias_table", "rel_pos_bias", "relative_position_bias",
                        "gamma_1", "lambda_1", "ffn_ln", "fc1_g"))
        },
        ModelFamily(
            "DeiT III or a relative", telltale: "layer scale, and a position table without a row for the class token",
            difference: "its position table has no row for the class token, and its blocks scale their outputs (layer "
                + "scale)"
        ) {
            $0.hasLayerScale && $0.hasClassToken && $0.lacksClassRow && !$0.hasRegisters
                && !$0.has("mask_token", "w12", "w3")
        },
        ModelFamily(
            "DINOv2", types: ["dinov2", "dinov2_with_registers"],
            telltale: "layer scale (`ls1`, `layer_scale1`) and `mask_token`, `register_tokens` or patches of 14 pixels",
            difference: "its blocks scale their outputs (layer scale), and some have register tokens beside the class "
                + "token or a gated MLP (SwiGLU)"
        ) { $0.hasLayerScale && ($0.has("mask_token", "register_tokens") || $0.projection.last == 14) },
        ModelFamily(
            "DINOv2 or another model with layer scale or registers",
            types: ["depth_anything", "vitpose_backbone", "radio"],
            telltale: "layer scale (`ls1`, `layer_scale1`), `reg_token`, `register_tokens`",
            difference: "its blocks scale their outputs (layer scale), or it has register tokens beside the class token"
        ) { !$0.tensors.isEmpty && ($0.hasLayerScale || $0.hasRegisters) },
        ModelFamily(
            "a model of images and words", types: ["vilt", "flava", "bridgetower", "visual_bert", "lxmert"],
            telltale: "`token_type_embeddings`, `text_embeddings` beside a patch projection",
            difference: "it adds a vector to each token that tells images from words, and reads both"
        ) { !$0.tensors.isEmpty && $0.has("token_type_embeddings", "text_embeddings") },
        ModelFamily(
            "a convolutional network",
            types: [
                "resnet", "convnext", "convnextv2", "regnet", "efficientnet", "mobilenet_v1", "mobilenet_v2", "bit",
                "van", "focalnet", "poolformer",
            ],
            telltale: "`layer1` and `bn1`; `conv_dw`, `dwconv`; `features` and `classifier`",
            difference: "it has convolutions instead of attention over patches"
        ) { evidence in
            (evidence.has("layer1", "layer4") && evidence.has("bn1", "conv1"))
                || evidence.has("conv_dw", "dwconv", "depthwise_conv", "conv_pw", "conv_stem", "_conv_stem")
                || (evidence.has("features") && evidence.has("classifier") && !evidence.has("attn"))
        },
        ModelFamily(
            "CLIP or a relative",
            types: [
                "clip", "clip_vision_model", "chinese_clip", "chinese_clip_vision_model", "altclip", "clipseg",
                "metaclip_2", "owlvit", "owlv2", "groupvit", "blip", "blip-2",
            ],
            telltale: "`class_embedding`, `ln_pre`, `pre_layrnorm`, `norm_pre`, `resblocks`",
            difference: "a LayerNorm stands before its blocks, and their activation is often QuickGELU"
        ) {
            $0.has("ln_pre", "pre_layrnorm", "norm_pre", "resblocks", "visual_projection")
                || ($0.has("class_embedding") && !$0.has("conv_proj"))
        },
        ModelFamily(
            "SigLIP",
            types: ["siglip", "siglip_vision_model", "siglip2", "siglip2_vision_model", "paligemma"],
            telltale: "`logit_bias`, `attn_pool`, `head.probe`; no class token",
            difference: "it has no class token: attention with a learned query pools its patches"
        ) { $0.has("logit_bias", "attn_pool", "probe") && !$0.hasClassToken },
        ModelFamily(
            "I-JEPA", types: ["ijepa"], telltale: "`predictor_embed` beside an encoder; no class token",
            difference: "it has no class token, and its position table has rows for the patches alone"
        ) {
            !$0.hasClassToken && !$0.tensors.isEmpty
                && !$0.fileParts.isDisjoint(with: ["predictor_embed", "predictor_blocks", "predictor_pos_embed"])
        },
        ModelFamily(
            "a distilled DeiT", types: ["deit"], telltale: "`dist_token`, `distillation_token`",
            difference: "it has a distillation token beside the class token, and a row for it in its position table"
        ) { !$0.tensors.isEmpty && $0.has("dist_token", "distillation_token", "head_dist") },
        ModelFamily(
            "a ViT of torchvision", telltale: "`conv_proj`, `class_token`, `encoder_layer_0`",
            difference: "its tensors have names of their own, which are not read",
            remedy: "use the same kind of model from timm or transformers"
        ) { $0.has("encoder_layer_0") || ($0.has("conv_proj") && $0.has("class_token")) },
        ModelFamily(
            "an audio model", types: ["audio-spectrogram-transformer", "ast", "audio_mae"], telltale: "–",
            difference: "its images are spectrograms, and it has a distillation token beside the class token"
        ) { _ in false },
        ModelFamily(
            "a detection or segmentation model",
            types: ["yolos", "dpt", "detr", "segformer", "mask2former", "oneformer", "rt_detr", "grounding-dino"],
            telltale: "`det_token`, `detection_tokens`",
            difference: "it has tokens for objects, or parts of its own around its Vision Transformer"
        ) { $0.has("det_token", "detection_tokens", "mid_position_embeddings") },
        ModelFamily(
            "a Vision Transformer with a gated MLP (SwiGLU)",
            telltale: "`fc1` twice as wide as `fc2`; `w12`, `w1` and `w3`",
            difference: "its MLP multiplies two halves of its hidden layer", isDisguised: true
        ) { evidence in
            if evidence.has("w12") || (evidence.has("w1") && evidence.has("w3")) { return true }
            guard let first = evidence.tensors["blocks.0.mlp.fc1.weight"]?.shape,
                let second = evidence.tensors["blocks.0.mlp.fc2.weight"]?.shape, first.count == 2, second.count == 2
            else { return false }
            return first[0] / 2 == second[1] && first[0] % 2 == 0 && first[0] > 0
        },
        ModelFamily(
            "a Vision Transformer with rotary positions (RoPE)", telltale: "`rope`, `freqs`, `inv_freq`",
            difference: "it turns queries and keys by their positions, beside a position table or instead of one"
        ) { $0.has("rope", "freqs", "inv_freq", "freqs_cos", "freqs_sin") },
        ModelFamily(
            "a Vision Transformer without biases of query, key and value", telltale: "`attn.qkv.weight` alone",
            difference: "its attention has no bias where MAE's has one", isDisguised: true
        ) {
            !$0.isForeign && $0.tensors["blocks.0.attn.qkv.weight"] != nil
                && $0.tensors["blocks.0.attn.proj.bias"] != nil
                && !$0.tensors.keys.contains { $0.hasSuffix("qkv.bias") }
        },
        ModelFamily(
            "a language model",
            types: [
                "bert", "roberta", "gpt2", "llama", "mistral", "qwen2", "qwen3", "t5", "gemma", "gemma2", "phi", "opt",
            ],
            telltale: "`embed_tokens`, `lm_head`, `word_embeddings`, `wte`", difference: "it reads words, not images",
            remedy: "name weights of a Vision Transformer"
        ) { $0.tensors.isEmpty && $0.has("embed_tokens", "lm_head", "word_embeddings", "wte", "token_embedding") },
    ]

    private static let integers: Set<TensorType> = [.i8, .u8, .i16, .u16, .i32, .u32, .i64, .u64]
}

/// What config.json says of a model beside its sizes: transformers' type or timm's name.
struct StatedModel: Decodable {
    let modelType: String?
    let architecture: String?

    enum CodingKeys: String, CodingKey {
        case modelType = "model_type"
        case architecture
    }

    init(from decoder: any Swift.Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        modelType = try? container.decodeIfPresent(String.self, forKey: .modelType)
        architecture = try? container.decodeIfPresent(String.self, forKey: .architecture)
    }

    /// Reads `config.json` beside `path`; nil if there is none, or it is of another kind, or belongs to another file: it
    /// stands for the file that a folder's name means, and for one that is called as in such a folder.
    static func read(beside path: String, isFolder: Bool) throws -> StatedModel? {
        guard isFolder || WeightFiles.isUsual(path), let data = try ConfigurationFile.data(beside: path) else {
            return nil
        }
        return try? JSONDecoder().decode(StatedModel.self, from: data)
    }

    /// As the file has it, for a message: `model_type "dinov2"`.
    var phrase: String? {
        modelType.map { "model_type \(quoted($0))" } ?? architecture.map { "architecture \(quoted($0))" }
    }

    /// What is wrong with weights of another type, which none of the known families is.
    func refusal(_ path: String) -> Failure? {
        guard let modelType, !ModelFamily.plainTypes.contains(modelType) else { return nil }
        return Failure(
            .badData,
            "\(path): this is a model of another kind (model_type \(quoted(modelType)) in config.json), which dmae does "
                + "not run: its tensors are not those of a plain Vision Transformer; \(ModelFamily.plain)")
    }
}
