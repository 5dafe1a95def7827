/// The values that an encoder gives after its blocks, as `Encoder.latent`.
enum EncoderOutput {
    /// None: only the outputs of blocks are read.
    case blocks
    /// `norm` of every token: [R, D].
    case tokens
    /// `norm` of the class token: [B, D]. The last block computes keys and values for every token, and everything else
    /// for the class token only.
    case classToken
    /// `fc_norm` of the mean of the patch tokens: [B, D].
    case patchMean

    /// The name of the final norm; nil without one.
    var norm: String? {
        switch self {
        case .blocks: nil
        case .tokens, .classToken: "norm"
        case .patchMean: "fc_norm"
        }
    }
}
