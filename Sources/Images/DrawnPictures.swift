import Reporting
import Synchronization
import Tensors

/// Pictures that dmae itself drew, by the mark that `PNGWriter` leaves in them. Among images they lie by mistake.
enum DrawnPictures {
    /// With more PNG files than these in one search, none is opened.
    static let mostFiles = 100_000

    /// Which of the image files 0..<count dmae drew: those with the ending of a PNG file and its mark. Empty where dmae
    /// drew more than half of them: they are meant, then.
    ///
    /// - Parameter path: the path of a file; nil for one that is not looked at.
    static func indices(of count: Int, path: (Int) -> String?) throws -> Set<Int> {
        let files = (0..<count).compactMap { index in
            path(index).flatMap { $0.lowercased().hasSuffix(".png") ? (index: index, path: $0) : nil }
        }
        guard !files.isEmpty, files.count <= mostFiles else { return [] }
        let found = Mutex<Set<Int>>([])
        try ImageVisits.run(count: files.count, workers: files.count < 256 ? 1 : Threads.recommended) { number in
            // What cannot be read is reported where it is used.
            guard
                let head = try? readFile(
                    files[number].path, atMost: PNGWriter.headBytes, headCount: 0, where: { _ in }),
                PNGWriter.wrote(fileWithHead: head)
            else { return }
            found.withLock { _ = $0.insert(files[number].index) }
        }
        let drawn = found.withLock { $0 }
        return drawn.count > count / 2 ? [] : drawn
    }
}
