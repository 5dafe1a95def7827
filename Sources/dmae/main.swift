import Training
import Tensors
import Models
let a = CommandLine.arguments
do {
  Threads.count = Threads.recommended
  if a[1] == "replay" { try Replay.run(input: a[2], output: a[3]) }
  else {
    let e = Preset.encoder("vit-base", imageHeight: 224, imageWidth: 224)!
    let t = Preset.encoder("vit-large", imageHeight: 224, imageWidth: 224)!
    let m = ModelConfiguration(student: e, decoder: Preset.decoder("dec512d8")!, teacher: t, alignment: Recipe.paper.alignment, maskRatio: Double(a[3])!)
    let b = try StepBenchmark(m, batch: Int(a[2])!, steps: Int(a[4])!)
    print(b.imagesPerSecond, b.stepSeconds, b.optimizerSeconds, b.peakGFLOPS, b.fractionOfPeak, b.operations, ResidentMemory.peakBytes >> 20)
  }
} catch { print(error) }
