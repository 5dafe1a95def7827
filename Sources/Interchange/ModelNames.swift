import Weights

/// The names of a file's tensors without the words that wrappers of modules leave in them.
struct ModelNames {
    /// As the file has them.
    let raw: [String]
    /// Without the words of wrappers, in the same order.
    let plain: [String]

    /// Words that PyTorch's wrappers of modules (parallel, sharded, compiled, recomputed) put into names, at any place.
    static let wrapperWords: Set<String> = [
        "module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_fpw_module", "_forward_module",
        "_wrapped_module", "_ddp_module",
    ]

    /// Names of more bytes are no model's and stay as they are.
    private static let maximumLength = 4096

    init(_ raw: [String]) {
        self.raw = raw
        var plain = raw.map(Self.withoutWrappers)
        // mmcv's average of a model: each name behind "ema_", with underscores for its points.
        if raw.contains(where: { $0.hasPrefix("ema_") && !$0.utf8.contains(0x2E) }) {
            var dotted: [String: String] = [:]
            for name in plain where name.utf8.contains(0x2E) { dotted[Self.flat(name)] = name }
            plain = plain.map { name in
                name.hasPrefix("ema_") ? dotted[String(name.dropFirst(4))].map { "ema." + $0 } ?? name : name
            }
        }
        // Where two tensors would get one name, the words tell two models apart.
        self.plain = Set(plain).count == plain.count ? plain : raw
    }

    /// `name` without the words of wrappers.
    static func withoutWrappers(_ name: String) -> String {
        guard name.utf8.count <= maximumLength else { return name }
        let parts = name.split(separator: ".", omittingEmptySubsequences: false)
        let kept = parts.filter { !wrapperWords.contains(String($0)) }
        return kept.count == parts.count || kept.isEmpty ? name : kept.joined(separator: ".")
    }

    /// `name` with underscores for its points.
    static func flat(_ name: String) -> String { name.replacing(".", with: "_") }
}
