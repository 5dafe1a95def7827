import Glibc
import Images
import Models
import Reporting
import Tensors
import Weights

/// The event files of a run, which TensorBoard reads: the values of `log.jsonl` under the same names, and pictures.
///
/// Each process of a run writes a file of its own, `tensorboard/events.out.tfevents.NUMBER.dmae`, whose number rises:
/// TensorBoard reads files in the order of their names. A resumed run cuts the steps that it will do again from earlier
/// files, and begins with an event that tells a TensorBoard which has read them already to drop them. So no step stands
/// twice, whoever reads the files.
///
/// The run does not depend on these files. What fails is reported once, and the run goes on.
public final class EventLog {
    /// The folder in that of the run.
    static let folderName = "tensorboard"
    private static let prefix = "events.out.tfevents.", suffix = ".dmae"

    private let folder: String
    private let terms: [LossTerm]
    private let time: () -> Double
    private let report: (Message) -> Void
    private var path = ""
    private var descriptor: Int32 = -1
    /// Bytes of whole records in the file.
    private var length = 0
    private var hasFailed = false
    private var record = EventRecord()

    /// Whether a file of this name in the folder is one of ours.
    static func isOwn(_ name: String) -> Bool { number(of: name) != nil }

    private static func number(of name: String) -> Int? {
        guard name.hasPrefix(prefix), name.hasSuffix(suffix) else { return nil }
        let digits = name.dropFirst(prefix.count).dropLast(suffix.count)
        return (10...15).contains(digits.utf8.count) && digits.utf8.allSatisfy { (0x30...0x39).contains($0) }
            ? Int(digits) : nil
    }

    /// Cuts later steps from the files in `folder`, makes it if it is not there, and begins a new file.
    ///
    /// - Parameters:
    ///   - step: the step after which the run continues; 0: from the start.
    ///   - keepsEvaluation: whether the evaluations after `step` stay, too.
    ///   - time: seconds since 1970, UTC.
    ///   - report: called once, with the first failure.
    package init(
        in folder: String, after step: Int, keepsEvaluation: Bool, terms: [LossTerm],
        time: @escaping () -> Double = EventLog.now, report: @escaping (Message) -> Void
    ) {
        self.folder = folder
        self.terms = terms
        self.time = time
        self.report = report
        do {
            try begin(after: step, keepsEvaluation: keepsEvaluation)
        } catch {
            failed(error)
            close()
        }
    }

    deinit { close() }

    /// Adds the values of the line of one step.
    package func append(_ record: StepRecord) {
        self.record.setScalars(time: time(), step: record.step) { add in
            add("epoch", Float(record.epoch))
            var values = record.losses[...]
            for term in terms {
                for index in 0..<term.valueCount {
                    add(term.listCount == nil ? term.key : "\(term.key)/\(index)", values.removeFirst())
                }
            }
            add(RunLog.learningRateKey, Float(record.learningRate))
            add("gradient_norm", record.gradientNorm)
            add("images_per_second", record.imagesPerSecond)
        }
        write()
    }

    /// Adds the values of the line of the evaluations after a step.
    package func append(_ record: EvaluationRecord) {
        self.record.setScalars(time: time(), step: record.step) { add in
            for value in record.values { add(value.term.key, Float(value.value)) }
        }
        write()
    }

    /// Adds pictures, named by their tags.
    package func append(_ pictures: [(tag: String, picture: Pixels)], step: Int) {
        do {
            record.setPictures(
                time: time(), step: step,
                try pictures.map { tag, picture in
                    EventRecord.Picture(
                        tag: tag, width: picture.width, height: picture.height, channels: picture.channels,
                        file: try PNGWriter.encode(picture, named: quoted(path: path)))
                })
            write()
        } catch {
            failed(error)
        }
    }

    /// Writes the file to the disk. Called before a checkpoint is written, so that the curves do not lack steps after a
    /// power failure.
    func synchronize() {
        if descriptor >= 0, fdatasync(descriptor) != 0, errno != EINVAL { failed(failure(errno)) }
    }

    /// Seconds since 1970, UTC.
    package static let now: () -> Double = {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9
    }

    // MARK: Files

    private func begin(after step: Int, keepsEvaluation: Bool) throws {
        path = folder
        guard mkdir(folder, 0o777) == 0 || errno == EEXIST else {
            throw Failure.system("cannot create folder \(quoted(path: folder))", errno, .makingFolder)
        }
        // Nothing in the folder of a run is written through a link.
        var status = stat()
        guard lstat(folder, &status) == 0, status.st_mode & S_IFMT == S_IFDIR else {
            throw Failure(.inputOutput, "\(quoted(path: folder)) is not a folder of its own: move it away")
        }
        let names = try FolderNames.sorted(folder).filter(Self.isOwn)
        for name in names { try cut("\(folder)/\(name)", after: step, keepsEvaluation: keepsEvaluation) }
        // A clock that went back, or a second start in one second, must not put a file before an earlier one.
        let number = max(Int(time()), (names.compactMap(Self.number).max() ?? 0) + 1), digits = "\(number)"
        let padding = String(repeating: "0", count: max(0, 10 - digits.count))
        path = "\(folder)/\(Self.prefix)\(padding)\(digits)\(Self.suffix)"
        descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0o666)
        guard descriptor >= 0 else { throw failure(errno) }
        record.setVersion(time: time())
        write()
        record.setStart(time: time(), step: step + 1)
        write()
    }

    /// Cuts the events of later steps from the file at `path`, and what a killed process or a damaged disk left behind
    /// the last whole event.
    private func cut(_ path: String, after step: Int, keepsEvaluation: Bool) throws {
        self.path = path
        let file = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)
        guard file >= 0 else { throw failure(errno) }
        defer { Glibc.close(file) }
        var status = stat()
        guard fstat(file, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
            throw Failure(.inputOutput, "cannot write \(quoted(path: path)): it is not a regular file; move it away")
        }
        let bytes = try contents(of: file, length: Int(status.st_size))
        let kept = bytes.withUnsafeBytes {
            EventRecord.lengthKept($0, after: step, keepsEvaluation: keepsEvaluation)
        }
        guard kept < bytes.count else { return }
        guard ftruncate(file, kept) == 0 else { throw failure(errno) }
    }

    private func contents(of file: Int32, length: Int) throws -> [UInt8] {
        var number: Int32 = 0
        let bytes = [UInt8](unsafeUninitializedCapacity: length) { buffer, count in
            while count < length {
                let read = pread(file, buffer.baseAddress! + count, length - count, count)
                if read < 0, errno == EINTR { continue }
                if read < 0 { number = errno }
                guard read > 0 else { return }
                count += read
            }
        }
        guard number == 0 else { throw failure(number) }
        return bytes
    }

    /// Appends the record. After a failure the file ends with the last whole one, so that later ones can be read.
    private func write() {
        guard descriptor >= 0 else { return }
        var written = 0
        while written < record.bytes.count {
            let count = record.bytes.withUnsafeBytes {
                Glibc.write(descriptor, $0.baseAddress! + written, $0.count - written)
            }
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else {
                failed(failure(errno))
                if ftruncate(descriptor, length) != 0 { close() }
                return
            }
            written += count
        }
        length += written
    }

    private func failed(_ error: any Error) {
        guard !hasFailed else { return }
        hasFailed = true
        let sentence = (error as? Failure)?.sentence ?? "\(path): \(error)"
        report("\(sentence); the run goes on, and TensorBoard may lack some of it")
    }

    private func failure(_ number: Int32) -> Failure { .system("cannot write \(quoted(path: path))", number, .writing) }

    private func close() {
        if descriptor >= 0 { Glibc.close(descriptor) }
        descriptor = -1
    }
}
