/* Browsers start no worker from file://. There this one, in a frame of the page, searches instead. */
if (location.protocol === "file:") {
  window.Worker = class FrameWorker extends EventTarget {
    constructor(url) {
      super()
      const frame = document.createElement("iframe")
      frame.hidden = true
      this.ready = new Promise(resolve => {
        frame.addEventListener("load", () => {
          const inside = frame.contentWindow
          const load = source => new Promise((done, failed) => {
            const script = inside.document.createElement("script")
            script.src = source
            script.onload = done
            script.onerror = failed
            inside.document.head.append(script)
          })
          inside.postMessage = data => this.dispatchEvent(new MessageEvent("message", { data }))
          inside.importScripts = (...sources) =>
            sources.reduce((before, source) => before.then(() => load(source)), Promise.resolve())
          resolve(load(url).then(() => inside))
        }, { once: true })
      })
      frame.srcdoc = "<!doctype html><title>search</title>"
      document.body.append(frame)
    }
    postMessage(data) {
      this.ready.then(inside => inside.dispatchEvent(new MessageEvent("message", { data })))
    }
  }
}
