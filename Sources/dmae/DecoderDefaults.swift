import Interchange
import Models
import Reporting
import Training

/// Sizes of the decoder where neither a flag, nor a file of values, nor a recipe that was named gives them.
struct DecoderDefaults {
    /// Weights that may hold a decoder, in the order in which they are asked, and what they are in the run.
    var weights: [(weights: ModelWeights, role: String)] = []
    /// The encoder that the decoder goes with, and what it is in the run: the teacher's, without one the student's.
    var encoder: EncoderConfiguration
    var role: String

    /// The width from which on MAE's encoders all have the decoder of its recipes: that of ViT-B.
    private static let smallestOfMAE = 768
    /// Columns of a head in MAE's decoder.
    private static let headWidth = 32

    /// The sizes, and where they come from; nil where the recipe's fit.
    ///
    /// Weights that hold a decoder give theirs. An encoder that is smaller than MAE's smallest has one of half its width
    /// and of a third of its blocks, as MAE's for ViT-L is.
    func sizes(insteadOf recipe: DecoderConfiguration) -> (decoder: DecoderConfiguration, origin: String)? {
        for (weights, role) in weights {
            guard var own = weights.decoder else { continue }
            if own.heads == 0 {
                guard own.width % Self.headWidth == 0 else { continue }
                own.heads = own.width / Self.headWidth
            }
            return own == recipe ? nil : (own, "that of the \(role)")
        }
        guard encoder.width < Self.smallestOfMAE else { return nil }
        let heads = max(1, min(recipe.width, (encoder.width / 2 + Self.headWidth - 1)) / Self.headWidth)
        let decoder = DecoderConfiguration(
            width: Self.headWidth * heads, depth: max(1, min(recipe.depth, (encoder.depth + 1) / 3)), heads: heads)
        return decoder == recipe
            ? nil : (decoder, "half the \(role)'s width and a third of its blocks, as MAE's for ViT-L")
    }
}

extension DecoderOptions {
    /// The decoder of a run of `recipe`. Says, unless `isQuiet`, what follows from `defaults`, or would if the recipe had
    /// not been named.
    func decoder(of recipe: Recipe, isNamed: Bool, following defaults: DecoderDefaults, isQuiet: Bool) throws
        -> DecoderConfiguration
    {
        let own = try decoder(recipe.decoder)
        guard given.isEmpty, let (sizes, origin) = defaults.sizes(insteadOf: own) else { return own }
        if !isNamed {
            if !isQuiet {
                Terminal.note(
                    "decoder of width \(sizes.width), \(Format.counted(sizes.depth, "block")), "
                        + "\(Format.counted(sizes.heads, "head")): \(origin) (--decoder, --decoder-width, "
                        + "--decoder-depth, --decoder-heads)")
            }
            return sizes
        }
        // A decoder that is as wide as its encoder takes most of the time: it computes all patches.
        if own.width > defaults.encoder.width {
            Terminal.warning(
                "the decoder of recipe \(recipe.name), of width \(own.width), is wider than the \(defaults.role), of width "
                    + "\(defaults.encoder.width), and takes most of the time; --decoder-width \(sizes.width) "
                    + "--decoder-depth \(sizes.depth) --decoder-heads \(sizes.heads) would be \(origin)")
        }
        return own
    }
}
