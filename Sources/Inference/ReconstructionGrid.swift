import Images

/// Reconstructions as one picture: columns and rows of original, masked picture and reconstruction, with a caption below
/// each three and the names of the three at the top.
public struct ReconstructionGrid {
    /// What is drawn of one input.
    public struct Cell {
        let pictures: [Pixels]
        let caption: String

        /// - Parameters:
        ///   - pictures: original, masked picture and reconstruction, all of one size.
        ///   - caption: is shortened where it is wider than the pictures.
        public init(_ pictures: [Pixels], caption: String) {
            precondition(pictures.count == titles.count)
            (self.pictures, self.caption) = (pictures, caption)
        }
    }

    /// Around the grid, between the three of a cell, between columns, and between rows, in pixels.
    static let margin = 8, gap = 2, columnGap = 16, rowGap = 10
    private static let titles = ["original", "masked", "reconstruction"]

    /// Cells side by side that make the grid at most a third higher than wide.
    ///
    /// - Parameters:
    ///   - count: number of cells.
    ///   - width, height: of one picture.
    public static func columns(for count: Int, width: Int, height: Int) -> Int {
        let layout = Layout(width: width, height: height)
        return (1...max(1, count)).first { columns in
            let rows = (count + columns - 1) / columns
            return 3 * layout.height(rows: rows) <= 4 * layout.width(columns: columns)
        } ?? count
    }

    /// The places of everything.
    struct Layout {
        let width, height, scale: Int
        let hasTitles: Bool

        init(width: Int, height: Int) {
            (self.width, self.height) = (width, height)
            let longest = ReconstructionGrid.titles.map(BitmapFont.width).max()!
            scale = 2 * longest <= width ? 2 : 1
            hasTitles = scale * longest <= width
        }

        var textHeight: Int { scale * BitmapFont.height }
        var cellWidth: Int { 3 * width + 2 * gap }
        var cellHeight: Int { height + scale * 2 + textHeight }
        /// Where the first row begins.
        var top: Int { margin + (hasTitles ? textHeight + 2 * scale : 0) }
        func left(_ column: Int) -> Int { margin + column * (cellWidth + columnGap) }
        func top(_ row: Int) -> Int { top + row * (cellHeight + rowGap) }
        func width(columns: Int) -> Int { left(columns) - columnGap + margin }
        func height(rows: Int) -> Int { top(rows) - rowGap + margin }
    }

    /// Draws cells row by row; all pictures have one size.
    public static func draw(_ cells: [Cell], columns: Int) -> Pixels {
        precondition(!cells.isEmpty && columns > 0)
        let first = cells[0].pictures[0], columns = min(columns, cells.count)
        let layout = Layout(width: first.width, height: first.height)
        let channels = cells.contains { $0.pictures.contains { $0.channels == 3 } } ? 3 : 1
        var canvas = Canvas(
            width: layout.width(columns: columns), height: layout.height(rows: (cells.count + columns - 1) / columns),
            channels: channels)
        for (number, cell) in cells.enumerated() {
            let left = layout.left(number % columns), top = layout.top(number / columns)
            for (place, picture) in cell.pictures.enumerated() {
                precondition(picture.width == first.width && picture.height == first.height)
                let x = left + place * (layout.width + gap)
                canvas.draw(picture, left: x, top: top)
                if number < columns, layout.hasTitles {
                    canvas.write(titles[place], left: x, top: margin, scale: layout.scale)
                }
            }
            canvas.write(
                BitmapFont.shortened(cell.caption, to: layout.cellWidth / layout.scale), left: left,
                top: top + layout.height + 2 * layout.scale, scale: layout.scale)
        }
        return canvas.picture
    }
}
