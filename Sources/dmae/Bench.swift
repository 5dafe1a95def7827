import Reporting
import ArgumentParser
import Models
import Tensors
import Training

struct Bench: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Time a training step and compare it with the machine's peak.",
        discussion: """
            Weights and images are random. One step warms up; after each timed step the peak of the processor is \
            measured on the same threads: multiply-adds in registers, with AMX products of tile registers. GFLOP \
            counts the matmuls and the attention that are executed.

              dmae bench distill --batch 32 --mask-ratio 0.75 --threads 2 --steps 5
              dmae bench distill --recipe paper --mask-ratio 0.98 --json > step.json
              dmae bench pretrain --student vit-small --batch 16
              dmae bench finetune --student vit-base --batch 32

            Options without a default below take the recipe's value; the help screens of distill, pretrain and \
            finetune list the recipes. The classifier of finetune has \(Self.classes) classes.
            """)

    /// Classes of the classifier, those of ImageNet-1k.
    private static let classes = 1000

    @Argument(
        help: "distill, pretrain or finetune.",
        completion: .list([Method.distill, .pretrain, .finetune].map(\.rawValue)))
    var method: Method

    @Option(
        help: ArgumentHelp(
            "Recipe: the values to start from. Default: paper for distill, mae for pretrain, finetune-base for "
                + "finetune.", valueName: "name"),
        completion: .list(Recipe.all.map(\.name) + FineTuningRecipe.all.map(\.name)))
    var recipe: String?

    @Option(help: ArgumentHelp("Images per step. Default: the recipe's.", valueName: "images"))
    var batch: Int?

    @Option(help: ArgumentHelp("Timed steps.", valueName: "count"))
    var steps = 5

    @Flag(help: "Print one JSON object.")
    var json = false

    @Flag(help: "Show where the time goes: each operation's fraction of the step, and of the machine's peak.")
    var profile = false

    @OptionGroup(title: "Model") var model: ModelOptions
    @OptionGroup(title: "Method") var methodOptions: MethodOptions
    @OptionGroup(title: "Alignment") var alignment: AlignmentOptions
    @OptionGroup(title: "Compute") var compute: ComputeOptions
    @OptionGroup(title: "Compute") var precisionOptions: PrecisionOptions
    @OptionGroup(title: "Compute") var teacherPrecisionOptions: TeacherPrecisionOptions

    func validate() throws {
        if let batch { try ValidationError.check { try Field.batch.requireAtLeast(1, batch) } }
        func refuse(_ flags: [String], _ reason: String) throws {
            guard flags.isEmpty else {
                throw ValidationError(
                    "\(flags.joined(separator: ", ")) \(flags.count == 1 ? "is" : "are") for \(reason)")
            }
        }
        if method != .distill {
            var flags = alignment.given
            if teacherPrecisionOptions.teacherPrecision != .same { flags.append("--teacher-precision") }
            try refuse(flags, "distill: \(method.rawValue) has no teacher")
        }
        if method == .finetune {
            try refuse(
                methodOptions.given + model.decoderOptions.given,
                "distill and pretrain: finetune sees every patch and has no decoder")
        }
        try ValidationError.check { try Field.steps.requireAtLeast(1, steps) }
    }

    private struct Report: Encodable {
        let version, method, recipe, precision, teacher_precision, instruction_set: String
        let batch, threads: Int
        let mask_ratio, predict_ratio, teacher_mask_ratio: Double
        let reconstruction_weight: Float
        let images_per_second: Double
        let step_seconds, optimizer_seconds: [Double]
        let peak_rss_bytes: Int
        let gflop_per_image, peak_gflops, fraction_of_peak: Double
        let int8_gflop_per_image: Double
        let int8_peak_gflops: Double?
        let profile: [ProfileRow]?
    }

    /// An operation of a part of the model, per step.
    private struct ProfileRow: Encodable {
        let part, operation: String
        let calls, seconds, share, gflops, gigabytes_per_second: Double
    }

    private func rows(_ benchmark: StepBenchmark) -> [ProfileRow] {
        let total = benchmark.stepSeconds.reduce(0, +), steps = Double(benchmark.stepSeconds.count)
        var rows = benchmark.profile.map {
            ProfileRow(
                part: $0.part.isEmpty ? "optimiser" : $0.part, operation: $0.operation.rawValue,
                calls: Double($0.calls) / steps,
                seconds: $0.seconds / steps, share: $0.seconds / total, gflops: $0.flop / $0.seconds * 1e-9,
                gigabytes_per_second: $0.bytes / $0.seconds * 1e-9)
        }
        rows.sort { $0.seconds > $1.seconds }
        let rest = total - benchmark.profile.reduce(0) { $0 + $1.seconds }
        rows.append(
            ProfileRow(
                part: "", operation: "everything else", calls: 0, seconds: rest / steps, share: rest / total, gflops: 0,
                gigabytes_per_second: 0))
        return rows
    }

    private func table(_ rows: [ProfileRow], of benchmark: StepBenchmark) -> String {
        func peak(_ row: ProfileRow) -> Double {
            row.operation == Profile.Operation.forwardInt8.rawValue
                ? benchmark.int8PeakGFLOPS ?? .nan : benchmark.peakGFLOPS
        }
        func cell(_ value: Double, _ digits: Int) -> String { value > 0 ? Format.fixed(value, digits) : "" }
        let header = ["part", "operation", "calls", "ms", "share", "GFLOP/s", "of peak", "GB/s"]
        return Format.table(
            [header]
                + rows.map {
                    [
                        $0.part, $0.operation, cell($0.calls, 0), Format.fixed(1000 * $0.seconds, 1),
                        Format.fixed(100 * $0.share, 1) + " %",
                        cell($0.gflops, 1), $0.gflops > 0 ? Format.fixed(100 * $0.gflops / peak($0), 1) + " %" : "",
                        cell($0.gigabytes_per_second, 1),
                    ]
                }, left: 2)
    }

    /// What was timed.
    private struct Measured {
        let recipe: String
        /// Nil for fine-tuning, which sees every patch.
        let model: ModelConfiguration?
        let benchmark: StepBenchmark
    }

    private func announce(batch: Int) {
        guard !json else { return }
        let threads = Format.counted(Threads.count, "thread")
        Terminal.note("batch \(batch), \(threads), \(InstructionSet.selected.name); one step to warm up …")
    }

    private func report(_ step: Int, _ seconds: Double) {
        if !json { Terminal.note("step \(step) of \(steps): \(Format.fixed(seconds, 3)) s") }
    }

    /// A step of distillation or of MAE's pre-training.
    private func distillation(_ precision: Precision, _ teacherPrecision: TeacherPrecision) throws -> Measured {
        let recipe = try Recipe.find(recipe ?? (method == .distill ? "paper" : "mae"), for: method)
        let student = try model.encoder(recipe.student, imageSize: recipe.imageSize)
        var configuration = methodOptions.model(recipe, student: student, decoder: try model.decoder(recipe.decoder))
        if method == .distill { try alignment.apply(to: &configuration, recipe) }
        let batch = batch ?? recipe.batch
        announce(batch: batch)
        let benchmark = try StepBenchmark(
            configuration, batch: batch, steps: steps, precision: precision, teacherPrecision: teacherPrecision,
            optimizer: recipe.optimizer, profiles: profile, progress: report)
        return Measured(recipe: recipe.name, model: configuration, benchmark: benchmark)
    }

    /// A step of fine-tuning.
    private func fineTuning(_ precision: Precision) throws -> Measured {
        let recipe = try FineTuningRecipe.find(recipe ?? "finetune-base")
        let configuration = ClassifierConfiguration(
            encoder: try model.encoder(recipe.student, imageSize: recipe.imageSize), classes: Self.classes,
            pool: recipe.pool, dropPath: recipe.dropPath, layerDecay: recipe.layerDecay, smoothing: recipe.smoothing)
        let batch = batch ?? recipe.batch
        announce(batch: batch)
        let benchmark = try StepBenchmark(
            configuration, batch: batch, steps: steps, precision: precision, optimizer: recipe.optimizer,
            profiles: profile, progress: report)
        return Measured(recipe: recipe.name, model: nil, benchmark: benchmark)
    }

    func run() throws {
        try compute.apply()
        let precision = precisionOptions.resolved(), teacherPrecision = teacherPrecisionOptions.resolved()
        let measured =
            method == .finetune ? try fineTuning(precision) : try distillation(precision, teacherPrecision)
        let benchmark = measured.benchmark, model = measured.model
        guard json else {
            let int8 = benchmark.int8PeakGFLOPS.map { peak in
                [
                    ["of which the teacher's in int8", Format.fixed(benchmark.int8GFLOP, 3)],
                    ["int8 peak, measured", Format.fixed(peak, 1)],
                ]
            }
            print(
                Format.table(
                    [
                        ["images per second (median)", Format.fixed(benchmark.imagesPerSecond, 3)],
                        ["step (median)", Format.fixed(StepBenchmark.median(benchmark.stepSeconds), 3) + " s"],
                        [
                            "of which optimiser",
                            Format.fixed(StepBenchmark.median(benchmark.optimizerSeconds), 3) + " s",
                        ],
                        ["GFLOP per image", Format.fixed(benchmark.operations.total, 3)],
                    ] + (int8.map { [$0[0]] } ?? []) + [
                        ["GFLOP/s", Format.fixed(benchmark.imagesPerSecond * benchmark.operations.total, 1)],
                        ["peak GFLOP/s, measured", Format.fixed(benchmark.peakGFLOPS, 1)],
                    ] + (int8.map { [$0[1]] } ?? []) + [
                        [
                            int8 == nil ? "fraction of peak" : "fraction of peak, each of its own",
                            Format.fixed(100 * benchmark.fractionOfPeak, 1) + " %",
                        ],
                        ["peak resident memory", Format.bytes(ResidentMemory.peakBytes)],
                    ]))
            if profile { print("\n" + table(rows(benchmark), of: benchmark)) }
            return
        }
        let report = Report(
            version: Dmae.version, method: method.rawValue, recipe: measured.recipe, precision: precision.rawValue,
            teacher_precision: teacherPrecision.rawValue,
            instruction_set: InstructionSet.selected.name, batch: benchmark.batch, threads: Threads.count,
            mask_ratio: model?.maskRatio ?? 0, predict_ratio: model?.predictRatio ?? 1,
            teacher_mask_ratio: model?.teacherMaskRatio ?? model?.maskRatio ?? 0,
            reconstruction_weight: model?.reconstructionWeight ?? 1,
            images_per_second: benchmark.imagesPerSecond,
            step_seconds: benchmark.stepSeconds, optimizer_seconds: benchmark.optimizerSeconds,
            peak_rss_bytes: ResidentMemory.peakBytes, gflop_per_image: benchmark.operations.total,
            peak_gflops: benchmark.peakGFLOPS, fraction_of_peak: benchmark.fractionOfPeak,
            int8_gflop_per_image: benchmark.int8GFLOP, int8_peak_gflops: benchmark.int8PeakGFLOPS,
            profile: profile ? rows(benchmark) : nil)
        print(String(decoding: try report.sortedJSON(), as: UTF8.self))
    }
}
