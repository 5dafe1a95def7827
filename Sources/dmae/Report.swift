import ArgumentParser
import Glibc
import Images
import Reporting
import RunReport
import Training
import Weights

struct Report: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Show the curves of runs: as a page, in the terminal, as a table.",
        discussion: """
            --output writes one page that needs no network: losses, learning rate, gradient norm, images per second and \
            evaluations over steps and time, memory, machine and command line, the settings, the sizes of files, and \
            held-out pictures as the newest checkpoints reconstruct them. Several runs are laid over each other, with a \
            table of the settings that differ. A browser opens the file; nothing is sent anywhere.

              dmae report run --output report.html
              dmae report run another-run --output report.html
              dmae report run --output report.html --follow
              dmae report run --terminal
              dmae report run --csv > run.csv

            The pictures are those of --input, else the validation images of the run, if it has any. For a classifier, --classes \
            judges the best weights on these images: accuracy by class, confusions and the surest mistakes.

            Long curves are thinned: drawn are the mean of each stretch and a band from its minimum to its maximum. \
            --csv leaves nothing out. Damaged lines of a log are left out and counted. A run is only read, and may go on \
            meanwhile.
            """)

    @Argument(help: ArgumentHelp("Folders of runs.", valueName: "folder"), completion: .directory)
    var runs: [String]

    @Option(
        name: .shortAndLong,
        help: ArgumentHelp("Where to write the page: an .html file.", valueName: "file"),
        completion: .file(extensions: ["html"]))
    var output: String?

    @Flag(help: "Draw the loss on standard output, in characters.")
    var terminal = false

    @Flag(help: "Print the logs as comma-separated values.")
    var csv = false

    @Option(
        parsing: .upToNextOption,
        help: ArgumentHelp(
            "Pictures for the page: images, folders, tar archives and lists; with --classes they need classes. "
                + "Default: the run's validation images.",
            valueName: "image|folder|tar|list"),
        completion: .file())
    var input: [String] = []

    @Option(
        help: ArgumentHelp(
            "Number of pictures that are reconstructed, spread evenly over the input; 0 for none. Default: 4, and 2 "
                + "for several runs.",
            valueName: "pictures"))
    var count: Int?

    @Flag(help: "Judge classifiers by class on the validation images, or on those of --input.")
    var classes = false

    @Flag(help: "Write the page again and again until no run is running; a browser that shows it follows.")
    var follow = false

    @Option(help: ArgumentHelp("Seconds between two pages of --follow.", valueName: "seconds"))
    var every = 30

    @Flag(name: .shortAndLong, help: "Print warnings and errors only.")
    var quiet = false

    @OptionGroup(title: "Compute") var compute: ComputeOptions

    func validate() throws {
        if runs.isEmpty || runs.contains("") { throw ValidationError("name the folder of a run") }
        for run in runs where access(run, F_OK) != 0 || isFile(run) {
            if csv, Outputs.hasEnding(run, [".csv"]) {
                throw ValidationError(
                    "--csv takes no file: it prints the table, `dmae report \(words(besides: run)) --csv > \(Shell.word(run))` "
                        + "writes one")
            }
            if output == nil, Outputs.hasEnding(run, [".html"]) {
                throw ValidationError(
                    "\(run) is not the folder of a run: for the page to be written there, say --output \(Shell.word(run))"
                )
            }
        }
        // What is no run is said first.
        if output == nil, !terminal, !csv, runs.allSatisfy({ access($0, F_OK) == 0 }) {
            throw ValidationError(
                "say what is wanted: --output report.html writes a page, --terminal draws the loss here, --csv prints the log"
            )
        }
        if terminal, csv { throw ValidationError("--terminal and --csv exclude each other: both print") }
        if output == nil {
            for (isGiven, flag) in [
                (!input.isEmpty, "--input"), (count != nil, "--count"), (classes, "--classes"), (follow, "--follow"),
            ] where isGiven {
                throw ValidationError("\(flag) is for a page: give --output, too")
            }
        }
        if let count, !(0...1000).contains(count) { throw ValidationError("--count must be 0 to 1000") }
        if !(1...86_400).contains(every) { throw ValidationError("--every must be 1 to 86400") }
    }

    private func isFile(_ path: String) -> Bool {
        var status = stat()
        return stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFREG
    }

    /// The other folders of the command line.
    private func words(besides run: String) -> String {
        let others = runs.filter { $0 != run }
        return others.isEmpty ? "RUN" : others.map(Shell.word).joined(separator: " ")
    }

    func run() throws {
        if let output {
            try Outputs.requireEnding(".html", of: output, "--output", "the report is an HTML page")
            try Outputs.check([output])
            try compute.apply()
        }
        var found = try read()
        if terminal { found.forEach { print(TerminalChart.draw($0, Self.terminal)) } }
        if csv { RunTable.write(found) { print($0) } }
        guard let output else { return }
        // Refuse early: pictures may take minutes.
        try Outputs.requireOutside([output], of: input + found.flatMap { $0.configuration?.imagePaths ?? [] })
        try AtomicFile.requirePlace(at: output)
        while true {
            let isFollowed = follow && found.contains { $0.state == .running }
            try write(found, to: output, refresh: isFollowed ? every : nil)
            guard isFollowed else { return }
            fflush(stdout)
            sleep(UInt32(every))
            found = try read()
        }
    }

    private func read() throws -> [ReportedRun] {
        var found = try runs.map { try ReportedRun(path: $0) }
        ReportedRun.name(&found)
        for run in found where run.log.damagedLines > 0 {
            Terminal.warning(
                "\(run.path): \(Format.counted(run.log.damagedLines, "line")) of log.jsonl cannot be read and left out")
        }
        return found
    }

    private func write(_ found: [ReportedRun], to output: String, refresh: Int?) throws {
        func command(_ run: ReportedRun, _ flags: String) -> String {
            "dmae report \(Shell.word(run.path)) \(flags) --output \(Shell.word(output))"
        }
        var page = ReportPage(
            found, origin: "Made by dmae \(Dmae.version) on \(localTime()).",
            remedies: (
                { "once there is a checkpoint, `\(command($0, "--input PICTURES"))` draws them" },
                { "`\(command($0, "--classes"))` judges the best weights on the run's validation images" }
            ), refresh: refresh)
        for run in found {
            page.reconstructions.append(try optional(run) { try reconstructions(run, to: output, of: found.count) })
            page.judgements.append(try optional(run) { try judgement(run, to: output) })
        }
        let html = try page.html()
        try AtomicFile.write(html.utf8, to: output)
        guard !quiet else { return }
        let runs = found.count == 1 ? "" : ", \(found.count) runs"
        Terminal.note("\(output)  \(Format.bytes(html.utf8.count))\(runs)")
    }

    /// The result of `body`. Pictures that the command line does not ask for are left out, with a warning, where they
    /// cannot be made.
    private func optional<Result>(_ run: ReportedRun, _ body: () throws -> Result?) throws -> Result? {
        do {
            return try body()
        } catch let failure as Failure where input.isEmpty && !classes {
            Terminal.warning("\(run.path): no pictures: \(failure.message(in: Flags()))")
            return nil
        }
    }

    /// The images for a run; nil without any.
    private func source(for run: ReportedRun, usesLabels: Bool, to output: String) throws -> ImageCollection? {
        let indexes = ArchiveIndexes(isQuiet: quiet), source: ImageCollection
        if !usesLabels, !input.isEmpty {
            source = try ImageCollection(listing: input, indexes: indexes)
        } else if let places = ImagePlaces.optional(input) ?? run.configuration?.validation {
            source = try ImageCollection(places, usesLabels: usesLabels, indexes: indexes)
        } else {
            return nil
        }
        try Outputs.check([output], images: source.files)
        source.warnings.forEach(Terminal.warningOnce)
        return source
    }

    private func reconstructions(_ run: ReportedRun, to output: String, of runs: Int) throws -> Reconstructions? {
        let count = count ?? (runs > 1 ? 2 : 4)
        guard count > 0, run.configuration?.model?.hasDecoder == true,
            let source = try source(for: run, usesLabels: false, to: output)
        else { return nil }
        return try Reconstructions(run, of: source, count: count, report: Terminal.warning)
    }

    private func judgement(_ run: ReportedRun, to output: String) throws -> Judgement? {
        guard classes, run.configuration?.classifier != nil,
            let source = try source(for: run, usesLabels: true, to: output)
        else { return nil }
        let progress = ImageProgress(total: source.count, isQuiet: quiet)
        let place = ImagePlaces.optional(input) ?? run.configuration!.validation!
        return try Judgement(
            run, of: source, place: "\(place)", workers: 1, progress: progress.update, report: Terminal.warning)
    }

    /// Standard output: its width, and whether it shows Unicode and colours.
    private static var terminal: TerminalChart.Terminal {
        func value(_ name: String) -> String { getenv(name).map { String(cString: $0) } ?? "" }
        var size = winsize()
        let isTerminal = isatty(STDOUT_FILENO) != 0 && value("TERM") != "dumb"
        let width = ioctl(STDOUT_FILENO, UInt(TIOCGWINSZ), &size) == 0 && size.ws_col > 0 ? Int(size.ws_col) : nil
        let stated = Int(value("COLUMNS")).flatMap { (20...1000).contains($0) ? $0 : nil }
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].map(value).first { !$0.isEmpty } ?? ""
        let hasUnicode = ["utf-8", "utf8"].contains(where: locale.lowercased().contains) && value("TERM") != "dumb"
        return TerminalChart.Terminal(
            columns: width ?? stated ?? 80, hasUnicode: hasUnicode,
            hasColor: isTerminal && value("NO_COLOR").isEmpty)
    }
}
