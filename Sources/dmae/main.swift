import ArgumentParser
import FoundationEssentials
import Images
import Tensors
print(pngVersion(), FileManager.default.currentDirectoryPath, Threads.observed)
