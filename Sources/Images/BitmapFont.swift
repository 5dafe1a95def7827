/// Letters of 5 × 7 pixels, for captions in pictures: printable ASCII, the letters of Western Europe without their accents,
/// and an ellipsis. Any other character is an empty box.
public enum BitmapFont {
    /// Pixels of a letter, without the column between letters.
    static let width = 5
    /// Rows of a letter.
    public static let height = 7

    /// Columns of `text`, one pixel to a dot.
    public static func width(of text: String) -> Int { max(0, text.unicodeScalars.count * (width + 1) - 1) }

    /// `text` with its middle left out, if it is wider than `columns`.
    public static func shortened(_ text: String, to columns: Int) -> String {
        let most = (columns + 1) / (width + 1), scalars = Array(text.unicodeScalars)
        guard scalars.count > most else { return text }
        guard most > 1 else { return "" }
        var result = String.UnicodeScalarView(scalars.prefix(most / 2))
        result.append("…")
        result.append(contentsOf: scalars.suffix(most - 1 - most / 2))
        return String(result)
    }

    /// Calls `body` with the column and row of each dot of `text`.
    static func forEachDot(of text: String, _ body: (_ x: Int, _ y: Int) -> Void) {
        for (place, scalar) in text.unicodeScalars.enumerated() {
            let columns = glyph(scalar)
            for column in 0..<width {
                let bits = columns >> (8 * UInt64(width - 1 - column)) & 0xFF
                for row in 0..<height where bits >> UInt64(row) & 1 == 1 { body(place * (width + 1) + column, row) }
            }
        }
    }

    private static func glyph(_ scalar: Unicode.Scalar) -> UInt64 {
        switch scalar.value {
        case 0x20...0x7E: glyphs[Int(scalar.value) - 0x20]
        case 0xC0...0xFF: glyphs[Int(plain[Int(scalar.value) - 0xC0]) - 0x20]
        case 0x2026: 0x40_00_40_00_40
        default: 0x7F_41_41_41_7F
        }
    }

    /// U+00C0 to U+00FF without accents.
    private static let plain = Array(
        "AAAAAAACEEEEIIIIDNOOOOOxOUUUUYTsaaaaaaaceeeeiiiidnooooo/ouuuuyty".utf8)

    /// U+0020 to U+007E. A byte for each column, the left one highest; in it a bit for each row, the top one lowest.
    private static let glyphs: [UInt64] = [
        0x0000000000, 0x00005F0000, 0x0007000700, 0x147F147F14, 0x242A7F2A12, 0x2313086462, 0x3649562050, 0x0000070000,
        0x001C224100, 0x0041221C00, 0x2A1C7F1C2A, 0x08083E0808, 0x0050300000, 0x0808080808, 0x0060600000, 0x2010080402,
        0x3E5149453E, 0x00427F4000, 0x4261514946, 0x2141454B31, 0x1814127F10, 0x2745454539, 0x3C4A494930, 0x0171090503,
        0x3649494936, 0x064949291E, 0x0036360000, 0x0056360000, 0x0814224100, 0x1414141414, 0x0041221408, 0x0201510906,
        0x324979413E, 0x7E1111117E, 0x7F49494936, 0x3E41414122, 0x7F4141221C, 0x7F49494941, 0x7F09090901, 0x3E4149497A,
        0x7F0808087F, 0x00417F4100, 0x2040413F01, 0x7F08142241, 0x7F40404040, 0x7F020C027F, 0x7F0408107F, 0x3E4141413E,
        0x7F09090906, 0x3E4151215E, 0x7F09192946, 0x4649494931, 0x01017F0101, 0x3F4040403F, 0x1F2040201F, 0x3F4038403F,
        0x6314081463, 0x0708700807, 0x6151494543, 0x007F414100, 0x0204081020, 0x0041417F00, 0x0402010204, 0x4040404040,
        0x0001020400, 0x2054545478, 0x7F48444438, 0x3844444420, 0x384444487F, 0x3854545418, 0x087E090102, 0x0C5252523E,
        0x7F08040478, 0x00447D4000, 0x2040443D00, 0x7F10284400, 0x00417F4000, 0x7C04180478, 0x7C08040478, 0x3844444438,
        0x7C14141408, 0x081414187C, 0x7C08040408, 0x4854545420, 0x043F444020, 0x3C4040207C, 0x1C2040201C, 0x3C4030403C,
        0x4428102844, 0x0C5050503C, 0x4464544C44, 0x0008364100, 0x00007F0000, 0x0041360800, 0x0804081008,
    ]
}
