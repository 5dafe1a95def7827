import Images
import Inference
import XCTest

/// Confusion matrices as pictures.
final class ConfusionPictureTests: XCTestCase {
    /// Every cell has the colour of its count, for matrices with a grid and for those of few pixels a class.
    func testCells() {
        for (classes, cell) in [(1, 32), (3, 32), (60, 23), (300, 4), (1500, 1)] {
            // Class 0 without images; the others right in a quarter of the images, and taken for the next class.
            var counts = [[Int]](repeating: [Int](repeating: 0, count: classes), count: classes)
            var images = [Int](repeating: 0, count: classes)
            for label in 1..<max(1, classes) {
                images[label] = 4
                counts[label][label] = 1
                counts[label][(label + 1) % classes] += 3
            }
            let picture = ConfusionPicture.draw(counts, images: images, numbers: Array(0..<classes))
            let grid = cell >= 6 ? 1 : 0
            // At the right and below there is a margin of 6 pixels.
            let left = picture.width - 6 - classes * cell - grid, top = picture.height - 6 - classes * cell - grid
            XCTAssertGreaterThan(left, 6)
            func color(_ row: Int, _ column: Int) -> [UInt8] {
                let x = left + column * cell + grid + (cell - grid) / 2, y = top + row * cell + grid + (cell - grid) / 2
                let place = 3 * (y * picture.width + x)
                return Array(picture.bytes[place..<place + 3])
            }
            for row in stride(from: 0, to: classes, by: max(1, classes / 7)) {
                for column in Set([0, row, (row + 1) % classes, classes - 1]) {
                    // The strength is the root of the share: ½ and √¾ of the way from white to the full colour.
                    let expected: [UInt8] =
                        images[row] == 0
                        ? [225, 225, 225]
                        : counts[row][column] == 0
                            ? [255, 255, 255] : row == column ? [128, 183, 158] : [199, 51, 60]
                    XCTAssertEqual(color(row, column), expected, "\(classes) classes, \(row), \(column)")
                }
            }
        }
    }

    /// Numbers stand at the left and at the top: dark pixels there, and nowhere else outside the matrix.
    func testNumbers() {
        let picture = ConfusionPicture.draw([[1, 0], [0, 1]], images: [1, 1], numbers: [7, 18])
        let left = picture.width - 6 - 65, top = picture.height - 6 - 65
        var dark = (left: 0, top: 0, elsewhere: 0)
        for y in 0..<picture.height {
            for x in 0..<picture.width where picture.bytes[3 * (y * picture.width + x)] == 60 {
                if x < left, y >= top {
                    dark.left += 1
                } else if y < top, x >= left {
                    dark.top += 1
                } else {
                    dark.elsewhere += 1
                }
            }
        }
        // 7 has 7 pixels, 1 has 8 and 8 has 13, each of 2 × 2.
        XCTAssertEqual([dark.left, dark.top, dark.elsewhere], [4 * 28, 4 * 28, 0])
    }
}
