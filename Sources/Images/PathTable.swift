import Glibc

/// Many paths in one piece of memory: a string each would take several times as much.
struct PathTable: Equatable {
    private(set) var bytes: [UInt8]
    /// Of each path, the position after its last byte.
    private(set) var ends: [Int]

    init() { (bytes, ends) = ([], []) }

    /// Nil if the positions do not fit the bytes.
    init?(bytes: [UInt8], ends: [Int]) {
        guard ends.last ?? 0 == bytes.count, ends.first ?? 0 >= 0, zip(ends, ends.dropFirst()).allSatisfy({ $0 <= $1 })
        else { return nil }
        (self.bytes, self.ends) = (bytes, ends)
    }

    var count: Int { ends.count }

    subscript(_ index: Int) -> ArraySlice<UInt8> { bytes[(index == 0 ? 0 : ends[index - 1])..<ends[index]] }

    /// The indices of the paths in the order of their bytes; of equal ones, in ascending order.
    func sortedIndices() -> [Int] {
        bytes.withUnsafeBytes { all in
            (0..<count).sorted { first, second in
                let (start, other) = (first == 0 ? 0 : ends[first - 1], second == 0 ? 0 : ends[second - 1])
                let (size, otherSize) = (ends[first] - start, ends[second] - other)
                let common = min(size, otherSize)
                let order = common == 0 ? 0 : memcmp(all.baseAddress! + start, all.baseAddress! + other, common)
                if order != 0 { return order < 0 }
                return size == otherSize ? first < second : size < otherSize
            }
        }
    }

    mutating func append(_ path: some Sequence<UInt8>) {
        bytes += path
        ends.append(bytes.count)
    }
}
