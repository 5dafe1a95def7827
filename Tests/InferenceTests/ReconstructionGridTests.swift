import Foundation
import Images
import Inference
import XCTest

/// The picture that `dmae reconstruct` draws: where its parts are, and what stands below them.
final class ReconstructionGridTests: XCTestCase {
    private func cell(_ shade: UInt8, width: Int, height: Int, _ caption: String) -> ReconstructionGrid.Cell {
        let pictures = (0..<3).map { place in
            Pixels(
                width: width, height: height, channels: 1,
                bytes: [UInt8](repeating: shade + UInt8(place), count: width * height))
        }
        return ReconstructionGrid.Cell(pictures, caption: caption)
    }

    private func rectangle(_ picture: Pixels, left: Int, top: Int, width: Int, height: Int) -> Set<UInt8> {
        Set((top..<top + height).flatMap { y in (left..<left + width).map { picture.bytes[y * picture.width + $0] } })
    }

    func testPlaces() {
        // Titles of 83 pixels, twice as large over 170.
        for (width, height, scale) in [(200, 60, 2), (90, 60, 1)] {
            let text = 7 * scale, cellWidth = 3 * width + 4, cellHeight = height + 2 * scale + text
            let top = 8 + text + 2 * scale
            let cells = (0..<5).map { cell(UInt8(100 + 10 * $0), width: width, height: height, "\($0).png") }
            let drawn = ReconstructionGrid.draw(cells, columns: 2)
            XCTAssertEqual(drawn.channels, 1)
            XCTAssertEqual(drawn.width, 16 + 2 * cellWidth + 16)
            XCTAssertEqual(drawn.height, top + 3 * cellHeight + 2 * 10 + 8)
            for number in 0..<5 {
                let left = 8 + number % 2 * (cellWidth + 16), top = top + number / 2 * (cellHeight + 10)
                for place in 0..<3 {
                    XCTAssertEqual(
                        rectangle(drawn, left: left + place * (width + 2), top: top, width: width, height: height),
                        [UInt8(100 + 10 * number + place)])
                }
                // A caption, and nothing else, below.
                let caption = rectangle(
                    drawn, left: left, top: top + height + 2 * scale, width: cellWidth, height: text)
                XCTAssertEqual(caption, [40, 255])
            }
            // The last cell is empty.
            XCTAssertEqual(
                rectangle(
                    drawn, left: 8 + cellWidth + 16, top: top + 2 * (cellHeight + 10), width: cellWidth,
                    height: cellHeight), [255])
            XCTAssertEqual(rectangle(drawn, left: 8, top: 8, width: cellWidth, height: text), [40, 255])
        }
        // No room for titles.
        XCTAssertEqual(
            ReconstructionGrid.draw([cell(9, width: 40, height: 8, "x")], columns: 7).height, 8 + 8 + 2 + 7 + 8)
    }

    /// As near to a screen's shape as rows of whole pictures are.
    func testColumns() {
        for (count, expected) in [(1, 1), (2, 1), (3, 1), (4, 2), (8, 2), (12, 2), (16, 3), (24, 3), (100, 6)] {
            let columns = ReconstructionGrid.columns(for: count, width: 192, height: 192)
            XCTAssertEqual(columns, expected, "\(count)")
        }
        XCTAssertEqual(ReconstructionGrid.columns(for: 3, width: 8, height: 1000), 3)
    }

    func testLetters() {
        XCTAssertEqual(BitmapFont.width(of: "abc"), 17)
        XCTAssertEqual(BitmapFont.width(of: ""), 0)
        XCTAssertEqual(BitmapFont.shortened("abcdefghij", to: 59), "abcdefghij")
        XCTAssertEqual(BitmapFont.shortened("abcdefghij", to: 58), "abcd…ghij")
        XCTAssertEqual(BitmapFont.shortened("abcdefghij", to: 5), "")
        func dots(_ text: String) -> [String] {
            var canvas = Canvas(width: max(1, BitmapFont.width(of: text)), height: 7, channels: 1)
            canvas.write(text, left: 0, top: 0, scale: 1)
            let picture = canvas.picture
            return (0..<7).map { y in
                String((0..<picture.width).map { picture.bytes[y * picture.width + $0] == 40 ? "#" : "." })
            }
        }
        XCTAssertEqual(dots("F"), ["#####", "#....", "#....", "####.", "#....", "#....", "#...."])
        XCTAssertEqual(dots("L"), ["#....", "#....", "#....", "#....", "#....", "#....", "#####"])
        XCTAssertEqual(dots("."), [".....", ".....", ".....", ".....", ".....", ".##..", ".##.."])
        XCTAssertEqual(dots("é"), dots("e"))
        XCTAssertEqual(dots("ß"), dots("s"))
        XCTAssertEqual(dots("Ü"), dots("U"))
        XCTAssertEqual(dots("漢"), ["#####", "#...#", "#...#", "#...#", "#...#", "#...#", "#####"])
        // No two letters look alike.
        let letters = (0x20...0x7E).map { String(UnicodeScalar(UInt8($0))) }
        XCTAssertEqual(Set(letters.map(dots)).count, letters.count)
    }
}
