import FoundationEssentials
import Images
import Reporting
import Weights

extension Conversion {
    /// Writes Hugging Face's folder: the weights, `config.json` and `preprocessor_config.json`.
    ///
    /// - Throws: as `write(to:)`.
    func writeFolder(_ path: String) throws {
        try writeFolder(
            path, form: "huggingface",
            [
                configuration.sortedJSON(indented: true) + [0x0A], preprocessor.sortedJSON(indented: true) + [0x0A],
            ])
    }

    /// The class of transformers that loads the folder.
    private var architecture: String {
        decoder != nil ? "ViTMAEForPreTraining" : classes != nil ? "ViTForImageClassification" : "ViTModel"
    }

    /// `config.json`: the keys of transformers' ViTConfig and ViTMAEConfig.
    private struct HuggingFace: Encodable {
        enum Size: Encodable {
            case square(Int)
            case rectangle(Int, Int)

            func encode(to encoder: any Swift.Encoder) throws {
                var container = encoder.singleValueContainer()
                switch self {
                case .square(let side): try container.encode(side)
                case .rectangle(let height, let width): try container.encode([height, width])
                }
            }
        }
        var architectures: [String]
        var attention_probs_dropout_prob = 0.0
        var decoder_hidden_size, decoder_intermediate_size, decoder_num_attention_heads, decoder_num_hidden_layers: Int?
        var dtype: String?
        var encoder_stride: Int?
        var hidden_act = "gelu"
        var hidden_dropout_prob = 0.0
        var hidden_size: Int
        var id2label: [String: String]?
        var image_size: Size
        var initializer_range = 0.02
        var intermediate_size: Int
        var label2id: [String: Int]?
        // MAE's models were trained with 1e-6; the published configurations say 1e-12.
        var layer_norm_eps = 1e-6
        var mask_ratio: Double?
        var model_type: String
        var norm_pix_loss: Bool?
        var num_attention_heads, num_channels, num_hidden_layers, patch_size: Int
        var qkv_bias = true
    }

    private var configuration: HuggingFace {
        var result = HuggingFace(
            architectures: [architecture], hidden_size: encoder.width,
            image_size: encoder.imageHeight == encoder.imageWidth
                ? .square(encoder.imageHeight) : .rectangle(encoder.imageHeight, encoder.imageWidth),
            intermediate_size: 4 * encoder.width, model_type: decoder == nil ? "vit" : "vit_mae",
            num_attention_heads: encoder.heads, num_channels: encoder.channels, num_hidden_layers: encoder.depth,
            patch_size: encoder.patchSize)
        let types = Set(tensors.map(\.type))
        if types.count == 1, let type = types.first {
            result.dtype = [.f32: "float32", .f16: "float16", .bf16: "bfloat16", .f64: "float64"][type]
        }
        if let decoder {
            result.decoder_hidden_size = decoder.width
            result.decoder_intermediate_size = 4 * decoder.width
            result.decoder_num_attention_heads = decoder.heads
            result.decoder_num_hidden_layers = decoder.depth
            result.mask_ratio = weights.maskRatio
            result.norm_pix_loss = weights.normalizePixels
        } else {
            result.encoder_stride = encoder.patchSize
        }
        if let classes {
            let names = classNames ?? (0..<classes).map { "LABEL_\($0)" }
            result.id2label = Dictionary(uniqueKeysWithValues: names.enumerated().map { (String($0), $1) })
            // Of two classes with one name, which ImageNet has, transformers keeps the last.
            result.label2id = Dictionary(names.enumerated().map { ($1, $0) }) { $1 }
        }
        return result
    }

    /// `preprocessor_config.json`.
    private var preprocessor: HuggingFacePreprocessor.Written {
        HuggingFacePreprocessor.Written(preprocessing, for: encoder)
    }
}
