// swift-tools-version: 6.1
// The static OpenMP runtime is made by `make`; see the README. Debian's packages give the rest.
import PackageDescription

let home = Context.environment["HOME"] ?? "/root"
let cache = Context.environment["XDG_CACHE_HOME"] ?? "\(home)/.cache"
let openMP = Context.environment["DMAE_OPENMP"] ?? "\(cache)/dmae/openmp-19"

let kernelFlags: [CSetting] = [
    .headerSearchPath("."),
    .unsafeFlags([
        // Kernels are optimised in every configuration: a debug build of them is unusable, not easier to debug.
        "-O3", "-fopenmp", "-I\(openMP)/include", "-fno-math-errno", "-ffp-contract=off", "-fvisibility=hidden",
        // A loop that starts in the middle of a line costs 1 to 2 % of a product, and where it starts would be chance.
        "-falign-loops=64",
        "-Wall", "-Wextra", "-Werror=implicit-function-declaration",
    ]),
]
let swiftFlags: [SwiftSetting] = [.swiftLanguageMode(.v5)]

/// The commit as a C string, from make. The package manager's own answer is kept with the manifest and would be an earlier
/// commit's.
let commit = Context.environment["DMAE_COMMIT"].flatMap { $0.isEmpty ? nil : "\"\($0)\"" }

/// A library room of the house, and the test target that mirrors it.
func room(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
    .target(name: name, dependencies: dependencies, swiftSettings: swiftFlags)
}
// Every target that a test imports is declared: incremental builds link stale objects otherwise.
func tests(_ name: String, _ dependencies: [Target.Dependency], exclude: [String] = []) -> Target {
    .testTarget(name: name, dependencies: dependencies + ["TestSupport"], exclude: exclude, swiftSettings: swiftFlags)
}

let package = Package(
    name: "dmae",
    products: [.executable(name: "dmae", targets: ["dmae"])],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", exact: "1.8.2"),
        // Without its traits, which would bring Foundation and with it ICU's data into the binary.
        .package(url: "https://github.com/apple/swift-protobuf", exact: "1.39.0", traits: []),
    ],
    targets: [
        .target(
            name: "CKernels", exclude: ["variants.inc"], cSettings: kernelFlags,
            linkerSettings: [.unsafeFlags(["-L\(openMP)/lib"]), .linkedLibrary("omp"), .linkedLibrary("m")]),
        // The little C around libjpeg-turbo, libpng and libwebp that catches their longjmp; see its header.
        .target(
            name: "CCodecs", cSettings: [.unsafeFlags(["-O2", "-Wall", "-Wextra"])],
            linkerSettings: ["jpeg", "png", "z", "webpdemux", "webp", "m"].map { .linkedLibrary($0) }),
        // The commit is a value of this target alone, so that a new one compiles one file.
        .target(
            name: "CBuild", exclude: ["third-party-notices.txt"],
            cSettings: commit.map { [.define("DMAE_COMMIT", to: $0)] } ?? []),
        // The processes of one run. `make mpi` links mpi.c in place of ranks.c.
        .target(
            name: "CRanks", exclude: ["mpi.c", "udev.c", "link.py"],
            cSettings: [.unsafeFlags(["-O2", "-Wall", "-Wextra"])]),
        room("Reporting", []),
        room("Tensors", ["Reporting", "CKernels"]),
        room("Images", ["Reporting", "Tensors", "CCodecs"]),
        room("Weights", ["Reporting"]),
        room("Models", ["Reporting", "Tensors", "Images"]),
        // ONNX/Messages holds generated code, and the .proto it is made of.
        .target(
            name: "Interchange",
            dependencies: [
                "Reporting", "Tensors", "Images", "Weights", "Models",
                .product(name: "SwiftProtobuf", package: "swift-protobuf"),
            ],
            exclude: ["ONNX/Messages/onnx.proto"], swiftSettings: swiftFlags),
        room("Ranks", ["Reporting", "Tensors", "Images", "CRanks"]),
        room("Inference", ["Reporting", "Tensors", "Images", "Weights", "Models", "Interchange", "Ranks"]),
        room("Training", ["Reporting", "Tensors", "Images", "Weights", "Models", "Interchange", "Ranks"]),
        room(
            "RunReport",
            ["Reporting", "Images", "Weights", "Models", "Interchange", "Inference", "Training"]),
        // The library for C: its face, and the Swift behind it. No product, which every build would link: `make library`
        // links their objects.
        .target(
            name: "CDmae", exclude: ["dmae.map", "dmae.pc.in", "example", "link.py"],
            cSettings: [.unsafeFlags(["-O2", "-Wall", "-Wextra"])]),
        room(
            "DmaeLibrary",
            ["Reporting", "Tensors", "Images", "Weights", "Models", "Interchange", "Inference", "CDmae"]),
        .executableTarget(
            name: "dmae",
            dependencies: [
                "CBuild", "Reporting", "Tensors", "Images", "Weights", "Models", "Interchange", "Inference", "Ranks",
                "Training", "RunReport",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ],
            exclude: ["manual.py", "package.py"], swiftSettings: swiftFlags),
        .executableTarget(
            name: "kernel-benchmark", dependencies: ["Tensors", "Benchmarks"], path: "Perf",
            exclude: [
                "Benchmarks", "NOTES.md", "Thresholds", "claims", "peers", "picture-500x375.jpg", "picture.py", "ranks",
                "results",
                "thresholds.json",
            ],
            swiftSettings: swiftFlags),
        .target(
            name: "Benchmarks",
            dependencies: ["Reporting", "CKernels", "Tensors", "Images", "Models", "Training", "Thresholds"],
            path: "Perf/Benchmarks", swiftSettings: swiftFlags),
        .target(name: "Thresholds", path: "Perf/Thresholds", swiftSettings: swiftFlags),
        .target(
            name: "TestSupport", dependencies: ["Reporting", "Tensors", "Images", "Models", "Weights"],
            path: "Tests/TestSupport",
            swiftSettings: swiftFlags),
        tests("ReportingTests", ["Reporting"]),
        // What KernelTests see of CKernels' internal headers.
        .target(
            name: "KernelInternals", dependencies: ["CKernels"], path: "Tests/KernelInternals",
            cSettings: kernelFlags + [.headerSearchPath("../../Sources/CKernels")]),
        tests("KernelTests", ["CKernels", "KernelInternals"]),
        tests("TensorTests", ["Reporting", "CKernels", "Tensors"]),
        tests("ModelTests", ["Reporting", "Tensors", "Weights", "Models"]),
        tests("WeightTests", ["Reporting", "Tensors", "Weights"]),
        tests(
            "InterchangeTests",
            [
                "Reporting", "Tensors", "Weights", "Models", "Interchange",
                .product(name: "SwiftProtobuf", package: "swift-protobuf"),
            ]),
        tests("InferenceTests", ["Reporting", "Tensors", "Images", "Weights", "Models", "Interchange", "Inference"]),
        tests("ImageTests", ["Reporting", "Tensors", "Images", "Weights"]),
        .target(
            name: "AllocationCounter", path: "Tests/AllocationCounter",
            cSettings: [.unsafeFlags(["-O2", "-fno-omit-frame-pointer"])]),
        tests(
            "TrainingTests",
            [
                "Reporting", "Tensors", "Images", "Weights", "Models", "Ranks", "Training", "Interchange",
                "AllocationCounter",
            ]),
        tests("RunReportTests", ["Reporting", "Models", "Training", "RunReport"]),
        tests("PerfTests", ["Tensors", "Benchmarks"]),
        .testTarget(name: "ThresholdTests", dependencies: ["Thresholds"], swiftSettings: swiftFlags),
        tests(
            "CommandTests",
            ["Reporting", "Tensors", "Weights", "Models", "Training", "Interchange", "Images", "RunReport"],
            exclude: ["Expected", "PageCheck.py"]),
    ]
)
