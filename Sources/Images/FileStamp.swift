import Glibc

/// What changes when a file is written anew: its size and its time of modification.
package struct FileStamp: Equatable {
    package let size: Int
    package let seconds, nanoseconds: Int

    init(size: Int, seconds: Int, nanoseconds: Int) {
        (self.size, self.seconds, self.nanoseconds) = (size, seconds, nanoseconds)
    }

    package init(_ status: stat) {
        self.init(
            size: Int(status.st_size), seconds: Int(status.st_mtim.tv_sec), nanoseconds: Int(status.st_mtim.tv_nsec))
    }
}
