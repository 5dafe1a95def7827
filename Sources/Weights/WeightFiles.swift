import Glibc
import Tensors

/// Opens files of weights, whatever their form.
public enum WeightFiles {
    /// Opens the file or folder at `path`: its form is found from its content, not its name.
    ///
    /// Throws `Failure`: `.inputOutput` where it cannot be read, `.badData` where it is damaged or in no form that is known.
    public static func open(_ path: String) throws -> any WeightFile {
        try SafeTensorsFile(path: path)
    }
}
