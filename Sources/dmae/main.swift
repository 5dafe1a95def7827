import Training
import Tensors
import Models
let a = CommandLine.arguments
do {
  Threads.count = Threads.recommended
  if a[1] == "replay" { try Replay.run(input: a[2], output: a[3]) }
  else if a[1] == "train" {
    // train recipe data out epochs [teacher]
    let method: Method = a[2] == "demo" ? .distill : .pretrain
    let r = Recipe.named(a[2], for: method)!
    let m = ModelConfiguration(student: Preset.encoder(r.student, imageHeight: r.imageSize, imageWidth: r.imageSize)!, decoder: Preset.decoder(r.decoder)!, teacher: r.teacher.flatMap { Preset.encoder($0, imageHeight: r.imageSize, imageWidth: r.imageSize) }, alignment: r.alignment, maskRatio: r.maskRatio, normalizePixels: r.normalizePixels)
    let c = TrainingConfiguration(method: method, recipe: r.name, model: m, data: a[3], teacher: a.count > 6 ? a[6] : nil, batch: r.batch, accumulation: r.effectiveBatch / r.batch, epochs: Double(a[5])!, warmupEpochs: r.warmupEpochs, baseLearningRate: r.baseLearningRate, minimumLearningRate: r.minimumLearningRate, optimizer: r.optimizer)
    let t = try Trainer(c)
    print(t.totalSteps, t.operations, t.plan.totalBytes >> 20)
    try t.prepare()
    let d = try RunDirectory(path: a[4], resuming: false)
    Signals.install()
    let p = ProgressLine(totalSteps: t.totalSteps)
    print(try t.run(in: d, workers: 1, progress: p) { p.message($0) })
    print(try RunSummary(log: d.logPath).table)
  }
  else {
    let e = Preset.encoder("vit-base", imageHeight: 224, imageWidth: 224)!
    let t = Preset.encoder("vit-large", imageHeight: 224, imageWidth: 224)!
    let m = ModelConfiguration(student: e, decoder: Preset.decoder("dec512d8")!, teacher: t, alignment: Recipe.paper.alignment, maskRatio: Double(a[3])!)
    let b = try StepBenchmark(m, batch: Int(a[2])!, steps: Int(a[4])!)
    print(b.imagesPerSecond, b.stepSeconds, b.optimizerSeconds, b.peakGFLOPS, b.fractionOfPeak, b.operations, ResidentMemory.peakBytes >> 20)
  }
} catch { print(error) }
