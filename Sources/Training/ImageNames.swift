import Images
import Reporting

/// The names of a source's images, compared with those of another time.
enum ImageNames {
    /// Which images differ: "missing: a.png and 2 more; added: b.png"; nil where none does, but for their order.
    static func difference(of source: any ImageSource, from earlier: [String]) -> String? {
        // By their bytes, which a copy to another system may change.
        func counts(_ names: some Sequence<String>) -> [[UInt8]: Int] {
            names.reduce(into: [:]) { $0[Array($1.utf8), default: 0] += 1 }
        }
        /// The first of `names` that is not among `others`, and how many more there are. A name may be there twice.
        func surplus(_ names: some Sequence<String>, over others: [[UInt8]: Int]) -> String? {
            var left = others, first: String?, count = 0
            for name in names {
                let bytes = Array(name.utf8)
                if let known = left[bytes], known > 0 {
                    left[bytes] = known - 1
                } else {
                    first = first ?? name
                    count += 1
                }
            }
            return first.map { count > 1 ? "\($0) and \(Format.grouped(count - 1)) more" : $0 }
        }
        let names = (0..<source.count).lazy.map(source.name)
        let parts = [
            surplus(earlier, over: counts(names)).map { "missing: \($0)" },
            surplus(names, over: counts(earlier)).map { "added: \($0)" },
        ].compactMap { $0 }
        return parts.isEmpty ? nil : parts.joined(separator: "; ")
    }
}
