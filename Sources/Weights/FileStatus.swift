import Glibc
import Reporting

/// What is at `path`; nil where nothing is.
///
/// - Parameter followsLinks: whether the status is that of the file that a symbolic link leads to.
/// - Throws: `Failure.inputOutput` where the system cannot tell: what is there must not count as absent.
package func fileStatus(_ path: String, followsLinks: Bool = true) throws -> stat? {
    var status = stat()
    if (followsLinks ? stat(path, &status) : lstat(path, &status)) == 0 { return status }
    let number = errno
    // Of a link in a circle, or one that leads nowhere, what opens the file says the reason.
    guard ![ENOENT, ENOTDIR, ELOOP, ENAMETOOLONG].contains(number) else { return nil }
    throw Failure.system(
        "cannot examine \(quoted(path: path))", number, .examining, otherwise: "check its permissions and its disk")
}
