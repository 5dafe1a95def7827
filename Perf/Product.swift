import CKernels
import Glibc
import Reporting

/// One matrix product of the paper's step, plain: C[m,n] = A·B without an epilogue, as every library can do it, of
/// operands and into a result of its precision; gradients of weights are float32 with us. `forward` is X·Wᵀ with W
/// [n,k]; `dX` is dY·W with W [k,n]; `dW` is dYᵀ·X with dY [k,m] and X [k,n].
struct Product {
    let name: String
    let form: Form
    let m, n, k: Int

    enum Form: String { case forward, dX, dW }

    /// A Linear of `input` to `output` features on `rows` tokens, in the forms that the step needs of it.
    static func linear(_ name: String, rows: Int, _ input: Int, _ output: Int, _ forms: [Form] = [.forward, .dX, .dW])
        -> [Product]
    {
        forms.map { form in
            switch form {
            case .forward: return Product(name: "\(name) forward", form: form, m: rows, n: output, k: input)
            case .dX: return Product(name: "\(name) dX", form: form, m: rows, n: input, k: output)
            case .dW: return Product(name: "\(name) dW", form: form, m: output, n: input, k: rows)
            }
        }
    }
    static func block(_ name: String, rows: Int, width: Int, _ forms: [Form] = [.forward, .dX, .dW]) -> [Product] {
        linear("\(name) qkv", rows: rows, width, 3 * width, forms)
            + linear("\(name) proj", rows: rows, width, width, forms)
            + linear("\(name) fc1", rows: rows, width, 4 * width, forms)
            + linear("\(name) fc2", rows: rows, 4 * width, width, forms)
    }

    /// Teacher ViT-L (1024), student ViT-B (768), decoder 512, batch 32. Masked at 75 %, an image has 49 patches and
    /// the class token; at 98 %, 3 patches and it. No gradient goes into the teacher or the images.
    static let paper: [Product] = {
        var all: [Product] = []
        for (tokens, at) in [(50, ""), (4, " 98 %")] {
            let rows = 32 * tokens, patches = rows - 32
            all += linear("teacher\(at) patches", rows: patches, 768, 1024, [.forward])
            all += block("teacher\(at)", rows: rows, width: 1024, [.forward])
            all += linear("student\(at) patches", rows: patches, 768, 768, [.forward, .dW])
            all += block("student\(at)", rows: rows, width: 768)
            all += linear("feature head\(at)", rows: rows, 768, 1024)
            all += linear("decoder embed\(at)", rows: rows, 768, 512)
        }
        all += block("decoder", rows: 32 * 197, width: 512)
        return all + linear("prediction", rows: 32 * 197, 512, 768)
    }()

    func benchmark(_ precision: dmae_precision) -> Benchmark {
        gemm(
            name, precision, m: m, n: n, k: k, transposed: (form == .dW, form == .forward),
            form == .dW ? .activations : .plain)
    }

    /// Takes turns with other programs: one JSON object per line of standard input, until it ends.
    ///
    ///     hello                   the instruction set, the threads and the list of products prepare INDEX f32|bf16
    ///     fills the operands and runs once run SECONDS             repeats for that long, at least three times:
    ///     seconds of each, and the peak before and after
    static func serve(_ machine: Machine) {
        var precision = DMAE_PRECISION_F32, run: (() -> Void)?
        while let line = readLine() {
            let words = line.split(separator: " ")
            switch (words.first, words.count) {
            case ("hello", 1):
                let products = paper.map {
                    #"{"name":"\#($0.name)","form":"\#($0.form)","m":\#($0.m),"n":\#($0.n),"k":\#($0.k)}"#
                }
                let isa = String(cString: dmae_isa_name(dmae_isa_selected()))
                print(
                    #"{"instruction_set":"\#(isa)","processor":"\#(Machine.processor)","threads":\#(machine.threads),"#
                        + #""products":[\#(products.joined(separator: ","))]}"#)
            case ("prepare", 3):
                guard let index = Int(words[1]), paper.indices.contains(index) else { fail("no product \(words[1])") }
                precision = words[2] == "bf16" ? DMAE_PRECISION_BF16 : DMAE_PRECISION_F32
                releaseMemory()
                run = paper[index].benchmark(precision).prepare()
                run!()
                print("{}")
            case ("run", 2):
                guard let seconds = Double(words[1]), let run else { fail("'\(line)' without a number or a product") }
                let before = machine.peakNow(precision)
                var times: [Double] = []
                let end = monotonicSeconds() + seconds
                while times.count < 3 || monotonicSeconds() < end { times.append(Machine.time(run)) }
                let peak = max(before, machine.peakNow(precision))
                print(#"{"seconds":\#(times),"peak":\#(peak)}"#)
            default: fail("'\(line)' is not a request")
            }
            fflush(stdout)
        }
    }
}
