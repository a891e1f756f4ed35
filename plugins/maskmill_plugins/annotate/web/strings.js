/** Every text of the page in English and Chinese; `{name}` is replaced by a value. */

import { keep, kept } from "./api.js";

const LANGUAGE = "maskmill.language";

/** @type {Record<string, [string, string]>} */
const TABLE = {
  title: ["maskmill · annotate", "maskmill · 标注"],
  skip: ["Skip to the image", "跳到图片"],
  language: ["中文", "English"],
  languageLabel: ["Switch to Chinese", "切换到英文"],
  theme: ["Light or dark", "浅色或深色"],
  help: ["Help and keys", "帮助与快捷键"],
  undo: ["Undo", "撤销"],
  redo: ["Redo", "重做"],
  images: ["Images", "图片"],
  close: ["Close", "关闭"],
  search: ["Search names", "搜索文件名"],
  filterAll: ["All", "全部"],
  todo: ["To do", "待标注"],
  done: ["Done", "已完成"],
  empty: ["Empty", "无目标"],
  rejected: ["Rejected", "已弃用"],
  failed: ["Unreadable", "无法读取"],
  noMatch: ["No image matches.", "没有匹配的图片。"],
  objectsCount: ["{n} objects", "{n} 个目标"],
  objectsCountOne: ["1 object", "1 个目标"],
  previous: ["Previous image", "上一张"],
  next: ["Next image", "下一张"],
  place: ["{n} of {total}", "第 {n} 张，共 {total} 张"],
  progress: ["{n} of {total} finished", "已完成 {n} / {total}"],
  picture: ["Image. Drag a box around an object, or click on it.", "图片。拖动鼠标框选目标，或点击目标。"],
  tools: ["Tools", "工具"],
  toolBox: ["Box", "框"],
  toolBoxLabel: ["Box: drag around an object; click adds a point", "框选：拖动框住目标；点击添加点"],
  toolAdd: ["Add", "加点"],
  toolAddLabel: ["Point on the object", "目标上的点"],
  toolOff: ["Remove", "减点"],
  toolOffLabel: ["Point off the object: remove an area", "目标外的点：去掉一块区域"],
  toolErase: ["Erase", "删点"],
  toolEraseLabel: ["Erase a point", "删除一个点"],
  toolMove: ["Move", "移动"],
  toolMoveLabel: ["Move the image", "移动图片"],
  zoomIn: ["Zoom in", "放大"],
  zoomOut: ["Zoom out", "缩小"],
  fit: ["Whole image", "显示整张图"],
  labels: ["Labels", "类别"],
  noLabel: ["none", "无"],
  addLabel: ["Type a label", "输入类别"],
  objects: ["Objects", "目标"],
  newObject: ["New object", "新目标"],
  copyPrevious: ["Copy previous", "复制上一张"],
  copyPreviousLabel: ["Copy the objects of the previous image", "复制上一张图片的标注"],
  noObjects: ["Nothing yet", "还没有目标"],
  noObjectsHint: [
    "Drag a box around an object in the image, or click on it.",
    "在图片中拖动鼠标框住目标，或直接点击目标。",
  ],
  byLabel: ["Colour by label", "按类别着色"],
  byLabelLabel: ["One colour per label instead of per object", "同一类别使用同一颜色"],
  object: ["Object {n}", "目标 {n}"],
  show: ["Show", "显示"],
  hide: ["Hide", "隐藏"],
  remove: ["Delete", "删除"],
  score: ["The model's own estimate of the mask's quality", "模型对掩码质量的估计"],
  computing: ["computing", "计算中"],
  noMask: ["no mask", "无掩码"],
  candidates: ["Three suggestions", "三个候选"],
  candidate: ["Suggestion {n}, score {score}", "候选 {n}，得分 {score}"],
  automatic: ["Auto", "自动"],
  cutout: ["Cut-out", "抠图"],
  noCutout: ["The selected object appears here.", "选中的目标会显示在这里。"],
  downloads: ["Download", "下载"],
  downloadMask: ["Mask", "掩码"],
  downloadCutout: ["Cut-out", "抠图"],
  downloadCoco: ["COCO", "COCO"],
  accept: ["Accept", "完成"],
  markEmpty: ["Nothing here", "无目标"],
  markEmptyLabel: ["Mark as empty: this image has no objects", "标为无目标：图中没有要找的东西"],
  reject: ["Reject", "弃用"],
  rejectLabel: ["Reject: do not use this image", "弃用：不使用这张图片"],
  reopen: ["Back to “to do”", "恢复为待标注"],
  saved: ["Saved", "已保存"],
  saving: ["Saving…", "正在保存…"],
  unsaved: ["Not saved, will retry", "未保存，将重试"],
  conflictState: ["Not saved: changed elsewhere", "未保存：在别处被修改"],
  refusedState: ["Not saved", "未保存"],
  quickState: ["Quick try: not saved", "试用：不保存"],
  troubled: ["The server could not save: {why}. Retrying.", "服务器未能保存：{why}。正在重试。"],
  refused: ["The server rejected this: {why}", "服务器拒绝保存：{why}"],
  fragile: [
    "This browser stores nothing for this page. Leave it only when it shows “Saved”.",
    "此浏览器不允许本页存储数据。请在显示“已保存”后再离开。",
  ],
  lost: [
    "The server does not answer. Your work is stored in this browser. Retrying in {n} s.",
    "服务器没有响应。您的标注已保留在此浏览器中，{n} 秒后重试。",
  ],
  trying: ["The server does not answer. Retrying…", "服务器没有响应，正在重试…"],
  tryNow: ["Retry now", "立即重试"],
  back: ["The server is back.", "服务器已恢复。"],
  modelLoading: ["The model is loading…", "模型正在加载…"],
  modelFailed: ["The model could not be loaded; see the server's output.", "模型加载失败，原因见服务器输出。"],
  preparing: ["Preparing the image… {n} s", "正在处理图片… {n} 秒"],
  prepareHint: ["Once per image; after that, masks appear immediately.", "每张图片只需一次，之后掩码即时出现。"],
  opening: ["Opening…", "正在打开…"],
  hintStart: ["Drag a box around an object, or click on it", "拖动框住目标，或点击目标"],
  hintActive: [
    "Click to add · right-click to remove · drag for another object",
    "左键点击添加 · 右键点击去除 · 拖动标注下一个目标",
  ],
  hintTouch: ["Drag a box around an object, or tap it", "拖动框住目标，或轻点目标"],
  hintTouchActive: ["Tap to add · “Remove” to take away · two fingers to zoom", "轻点添加 · “减点”去除 · 双指缩放"],
  firstOn: ["First draw a box, or a point on the object.", "请先画框，或在目标上点一个点。"],
  tooThin: ["That box is too thin. Zoom in to draw a thin object.", "框太窄。请放大后再框选细小目标。"],
  reopened: ["Changed: this image is to do again until you accept it.", "已修改：此图片重新变为待标注，请再次完成。"],
  removedOne: ["1 object removed.", "已删除 1 个目标。"],
  removed: ["{n} objects removed.", "已删除 {n} 个目标。"],
  acceptAnyway: ["{what}. Press Enter again to accept.", "{what}。再按一次 Enter 确认完成。"],
  withoutMaskOne: ["1 object has no mask", "1 个目标没有掩码"],
  withoutMask: ["{n} objects have no mask", "{n} 个目标没有掩码"],
  withoutLabelOne: ["1 object has no label", "1 个目标没有类别"],
  withoutLabel: ["{n} objects have no label", "{n} 个目标没有类别"],
  alreadyCopied: ["The objects of the previous image are already here.", "上一张图片的标注已经在这里了。"],
  copiedOne: ["1 object copied.", "已复制 1 个目标。"],
  copied: ["{n} objects copied.", "已复制 {n} 个目标。"],
  nothingToCopy: ["The previous image has nothing to copy.", "上一张图片没有可复制的标注。"],
  nothingDrawn: [
    "Nothing is drawn. If the image has no objects, press E for “Nothing here”.",
    "还没有标注。如果图中没有目标，请按 E 标为“无目标”。",
  ],
  lastImage: ["That was the last image. {n} are still to do.", "这是最后一张。还有 {n} 张待标注。"],
  allDone: ["All images are finished. {file} is ready for a batch run.", "所有图片已完成，可用 {file} 批量运行。"],
  noImages: ["There are no images in this folder.", "此文件夹中没有图片。"],
  restored: ["Earlier unsaved changes were restored.", "已恢复之前未保存的修改。"],
  restoredOthers: [
    "Unsaved changes on {n} images were found; they are being saved.",
    "发现 {n} 张图片有未保存的修改，正在保存。",
  ],
  changedPicture: [
    "This image has changed since it was annotated. Please check that the objects still fit.",
    "此图片在标注之后被修改过，请检查标注是否仍然合适。",
  ],
  cannotOpen: ["This image cannot be opened", "无法打开此图片"],
  noDetail: ["The full resolution cannot be shown: {why}", "无法显示原始分辨率：{why}"],
  quick: ["Quick try: {name}", "试用：{name}"],
  dropHere: ["Drop one image to try it out", "拖放一张图片即可试用"],
  notAnImage: ["That is not an image file.", "这不是图片文件。"],
  saveFirst: ["Please wait until this is saved.", "请先等待保存完成。"],
  conflictTitle: ["Changed in another window", "已在另一窗口中修改"],
  conflictText: [
    "{name} was changed elsewhere while you worked on it. Which version do you want to keep?",
    "{name} 在您标注时已在别处被修改。保留哪一个？",
  ],
  mine: ["Mine", "我的"],
  theirs: ["Theirs", "对方的"],
  keepMine: ["Keep mine", "保留我的"],
  takeTheirs: ["Take theirs", "使用对方的"],
  byWhom: ["by {who}", "来自 {who}"],
  tokenTitle: ["Token needed", "需要令牌"],
  tokenText: [
    "This server requires a token. It is in the address that “maskmill annotate” printed.",
    "此服务器需要令牌，见 “maskmill annotate” 输出的网址。",
  ],
  token: ["Token", "令牌"],
  continue: ["Continue", "继续"],
  helpTitle: ["How it works", "使用方法"],
  helpIntro: [
    "Show where an object is; the model finds its outline. Everything is saved automatically.",
    "指出目标的位置，模型会找出轮廓。所有标注都会自动保存。",
  ],
  helpDraw: ["Draw", "标注"],
  helpGo: ["Navigate", "前进"],
  helpSee: ["Look", "查看"],
  keyDrag: ["drag", "拖动"],
  keyClick: ["click", "单击"],
  keyRight: ["right-click", "右键"],
  keyWheel: ["wheel", "滚轮"],
  keySpace: ["space + drag", "空格 + 拖动"],
  keyOr: ["or", "或"],
  doBox: ["box around a new object", "框选新目标"],
  doPoint: ["point on the object", "目标上的点"],
  doOff: ["point off the object", "目标外的点"],
  doErase: ["erase a point", "删除一个点"],
  doCorner: ["edge, corner, point or name tag of the selected object: move it", "拖动选中目标的边、角、点或名称标签：移动"],
  doSelect: ["mask or name tag of another object: select it", "其他目标的掩码或名称标签：选中它"],
  doByLabel: ["colour by label", "按类别着色"],
  doNew: ["new object", "新目标"],
  doLabel: ["label of the object, by number or typed", "目标的类别：按数字或输入"],
  doCycle: ["next suggestion", "下一个候选"],
  doDelete: ["delete the object", "删除目标"],
  doUndo: ["undo, redo", "撤销、重做"],
  doCopy: ["copy from the previous image", "复制上一张的标注"],
  doAccept: ["accept and go on", "完成并继续"],
  doEmpty: ["nothing here", "无目标"],
  doReject: ["reject the image", "弃用图片"],
  doNext: ["next, previous image", "下一张、上一张"],
  doZoom: ["zoom", "缩放"],
  doPan: ["move the image", "移动图片"],
  doFit: ["whole image", "显示整张图"],
  doTab: ["next object", "下一个目标"],
  doHide: ["hide or show the object", "隐藏或显示目标"],
  doMasks: ["hide all masks while held", "按住时隐藏掩码"],
  doSearch: ["search", "搜索"],
  doHelp: ["this help", "此帮助"],
};

export const LANGUAGES = /** @type {const} */ (["en", "zh"]);

let language = kept(localStorage, LANGUAGE) ?? (navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en");

/** The language in use: "en" or "zh". */
export function spoken() {
  return language;
}

/** @param {"en" | "zh"} name */
export function speak(name) {
  language = name;
  keep(localStorage, LANGUAGE, name);
}

/**
 * A text in the language in use.
 * @param {string} name  in the table
 * @param {Record<string, string | number>} [values]
 * @returns {string}
 */
export function t(name, values = {}) {
  const text = TABLE[name];
  if (!text) throw new Error(`no text named ${name}`);
  return text[language === "zh" ? 1 : 0].replace(/\{(\w+)\}/g, (_, key) => String(values[key] ?? ""));
}

/**
 * A text with a number, which has a form of its own for one: "copiedOne" beside "copied".
 * @param {string} name
 * @param {number} n
 */
export function many(name, n) {
  return t(n === 1 ? `${name}One` : name, { n });
}

/** Fill in the texts that elements refer to: `data-t` is the content, `data-t-label` the accessible name. */
export function translate(root = document.documentElement) {
  for (const element of root.querySelectorAll("[data-t]")) element.textContent = t(element.dataset.t);
  for (const element of root.querySelectorAll("[data-t-placeholder]")) {
    element.placeholder = t(element.dataset.tPlaceholder);
    element.setAttribute("aria-label", element.placeholder);
  }
  for (const element of root.querySelectorAll("[data-t-label]")) {
    const key = element.dataset.key;
    const text = t(element.dataset.tLabel);
    element.setAttribute("aria-label", text);
    element.title = key ? `${text} (${key})` : text;
  }
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  document.title = t("title");
}
