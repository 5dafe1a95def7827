// Fine-tuning: MAE's recipes by the size of the encoder (arXiv 2111.06377, appendix A.2, and its published program),
// DMAE's for ViT-B (arXiv 2208.12256), and one for a few thousand images.

import Models

extension FineTuningRecipe {
    public static let base = FineTuningRecipe(
        name: "finetune-base", summary: "MAE's ViT-B on ImageNet", baseLearningRate: 5e-4, epochs: 100,
        warmupEpochs: 5, layerDecay: 0.65, dropPath: 0.1)

    public static let baseDMAE = FineTuningRecipe(
        name: "finetune-base-dmae", summary: "DMAE's distilled ViT-B on ImageNet", baseLearningRate: 5e-4, epochs: 100,
        warmupEpochs: 20, layerDecay: 0.75, dropPath: 0.15)

    public static let large = FineTuningRecipe(
        name: "finetune-large", summary: "MAE's ViT-L on ImageNet", student: "vit-large", baseLearningRate: 1e-3,
        epochs: 50, warmupEpochs: 5, layerDecay: 0.75, dropPath: 0.2)

    public static let huge = FineTuningRecipe(
        name: "finetune-huge", summary: "MAE's ViT-H on ImageNet", student: "vit-huge", baseLearningRate: 1e-3,
        epochs: 50, warmupEpochs: 5, layerDecay: 0.75, dropPath: 0.3)

    /// Training images below which `smallData` is proposed: "a few thousand".
    public static let smallDataImages = 10_000

    /// Chosen on openclipart's 5,515 training pictures; the page Downstream has the figures.
    public static let smallData = FineTuningRecipe(
        name: "finetune-small-data", summary: "a few thousand images and a small encoder",
        student: "vit-miniature", imageSize: 64, effectiveBatch: 64,
        batch: 64, baseLearningRate: 8e-3, epochs: 30, warmupEpochs: 5, layerDecay: 0.75, dropPath: 0.1,
        randAugment: nil, erasing: 0, mixup: 0, cutmix: 0)
}
