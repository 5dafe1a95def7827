/// Model sizes by name: published ones, and miniatures for tests and the demo.
public enum Preset {
    /// Encoders: width, depth, heads, patch size in pixels.
    public static let encoders: [(name: String, width: Int, depth: Int, heads: Int, patchSize: Int)] = [
        ("vit-miniature", 64, 4, 4, 8),
        ("vit-miniature-teacher", 128, 6, 4, 8),
        ("vit-tiny", 192, 12, 3, 16),
        ("vit-small", 384, 12, 6, 16),
        ("vit-base", 768, 12, 12, 16),
        ("vit-large", 1024, 24, 16, 16),
        ("vit-huge", 1280, 32, 16, 14),
    ]

    /// Decoders: width, depth, heads.
    public static let decoders: [(name: String, width: Int, depth: Int, heads: Int)] = [
        ("dec-miniature", 96, 2, 6),
        ("dec512d8", 512, 8, 16),
        ("dec512d2", 512, 2, 16),
    ]

    /// The encoder called `name`, for images of the given size in pixels; nil if there is none.
    public static func encoder(
        _ name: String, imageHeight: Int, imageWidth: Int, channels: Int = 3
    ) -> EncoderConfiguration? {
        encoders.first { $0.name == name }.map {
            EncoderConfiguration(
                width: $0.width, depth: $0.depth, heads: $0.heads, patchSize: $0.patchSize, imageHeight: imageHeight,
                imageWidth: imageWidth, channels: channels)
        }
    }

    /// The decoder called `name`; nil if there is none.
    public static func decoder(_ name: String) -> DecoderConfiguration? {
        decoders.first { $0.name == name }.map {
            DecoderConfiguration(width: $0.width, depth: $0.depth, heads: $0.heads)
        }
    }
}
