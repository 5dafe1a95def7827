import Glibc
import Images

/// A confusion matrix as a picture.
///
/// A row for each class of the images, a column for each predicted class, both in the order of the classes. The strength
/// of a cell's colour is the square root of its fraction of the row's images, so that rare confusions are seen: green on
/// the diagonal, red elsewhere, and grey the rows of classes without images. Numbers at the left and at the top are the
/// indices of the classes.
public enum ConfusionPicture {
    /// Maximum number of classes: a picture of 50 MB in memory.
    public static let maximumClasses = 4096

    /// Draws `counts`[class of the images][predicted class].
    ///
    /// - Parameters:
    ///   - images: of each class, those that are predicted to be of no class of the matrix included.
    ///   - numbers: the index that each class is shown with.
    public static func draw(_ counts: [[Int]], images: [Int], numbers: [Int]) -> Pixels {
        let classes = counts.count
        precondition((1...maximumClasses).contains(classes) && numbers.count == classes && images.count == classes)
        // Up to 32 pixels, and the picture below 1600 pixels or of single pixels.
        let cell = max(1, min(32, 1400 / classes))
        let hasGrid = cell >= 6
        let digits = numbers.map { String($0).count }.max()!
        let scale = cell >= 16 ? 2 : 1
        let textWidth = scale * (digits * (Digits.width + 1) - 1), textHeight = scale * Digits.height
        // Every class, or every second, fifth, tenth, so that numbers do not touch.
        let step = (max(textWidth, textHeight) + 4 + cell - 1) / cell
        let shown = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000].first { $0 >= step } ?? step
        let margin = 6
        let left = textWidth + 2 * margin, top = textHeight + 2 * margin
        let side = classes * cell + (hasGrid ? 1 : 0)
        let canvas = Canvas(width: left + side + margin, height: top + side + margin)
        // Shows between the cells as a grid, or around all as a frame.
        let frame = hasGrid ? 0 : 1
        canvas.fill(left - frame, top - frame, side + 2 * frame, side + 2 * frame, (200, 200, 200))
        let inner = hasGrid ? cell - 1 : cell, offset = hasGrid ? 1 : 0
        for (row, values) in counts.enumerated() {
            precondition(values.count == classes)
            let images = images[row]
            for (column, count) in values.enumerated() {
                let color: (UInt8, UInt8, UInt8)
                if images == 0 {
                    color = (225, 225, 225)
                } else {
                    let strength = (Double(count) / Double(images)).squareRoot()
                    let full = row == column ? (0.0, 110.0, 60.0) : (190.0, 20.0, 30.0)
                    func mixed(_ value: Double) -> UInt8 { UInt8((255 + (value - 255) * strength).rounded()) }
                    color = (mixed(full.0), mixed(full.1), mixed(full.2))
                }
                canvas.fill(left + column * cell + offset, top + row * cell + offset, inner, inner, color)
            }
        }
        for place in stride(from: 0, to: classes, by: shown) {
            let number = String(numbers[place])
            let width = scale * (number.count * (Digits.width + 1) - 1)
            let middle = place * cell + offset + inner / 2
            canvas.write(number, left: left - margin - width, top: top + middle - textHeight / 2, scale)
            canvas.write(number, left: max(0, left + middle - width / 2), top: margin, scale)
        }
        return canvas.picture
    }

    /// Digits of 3 × 5 pixels.
    private enum Digits {
        static let width = 3, height = 5
        /// Of each digit five rows of three bits, the left pixel in the highest.
        static let rows: [[UInt8]] = [
            [7, 5, 5, 5, 7], [2, 6, 2, 2, 7], [7, 1, 7, 4, 7], [7, 1, 3, 1, 7], [5, 5, 7, 1, 1], [7, 4, 7, 1, 7],
            [7, 4, 7, 5, 7], [7, 1, 2, 2, 2], [7, 5, 7, 5, 7], [7, 5, 7, 1, 7],
        ]
    }

    /// An RGB picture that is drawn on, white at first.
    private final class Canvas {
        private let width, height: Int
        private var bytes: [UInt8]

        init(width: Int, height: Int) {
            self.width = width
            self.height = height
            bytes = [UInt8](repeating: 255, count: 3 * width * height)
        }

        var picture: Pixels { Pixels(width: width, height: height, channels: 3, bytes: bytes) }

        func fill(_ left: Int, _ top: Int, _ width: Int, _ height: Int, _ color: (UInt8, UInt8, UInt8)) {
            for y in max(0, top)..<min(self.height, top + height) {
                for x in max(0, left)..<min(self.width, left + width) {
                    let place = 3 * (y * self.width + x)
                    (bytes[place], bytes[place + 1], bytes[place + 2]) = color
                }
            }
        }

        func write(_ number: String, left: Int, top: Int, _ scale: Int) {
            for (place, digit) in number.utf8.enumerated() {
                let start = left + place * scale * (Digits.width + 1)
                for (y, row) in Digits.rows[Int(digit) - 0x30].enumerated() {
                    for x in 0..<Digits.width where row & (4 >> UInt8(x)) != 0 {
                        fill(start + scale * x, top + scale * y, scale, scale, (60, 60, 60))
                    }
                }
            }
        }
    }
}
