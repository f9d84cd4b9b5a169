// Runs compiled.py in Pyodide, on a folder of this machine. The arguments are those of compiled.py.
import { readFileSync } from "node:fs";
import { loadPyodide } from "pyodide";

const [program, folder, deployed] = process.argv.slice(2);
const python = await loadPyodide();
python.setStdout({ batched: (line) => console.log(line) });
const argv = ["compiled.py"];
if (folder) {
  python.mountNodeFS("/folder", folder);
  argv.push("/folder", deployed);
}
python.globals.set("argv", python.toPy(argv));
python.runPython("import sys; sys.argv = list(argv)");
python.runPython(readFileSync(program, "utf8"));
