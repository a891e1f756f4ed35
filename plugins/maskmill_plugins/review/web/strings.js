/** Every text of the page in English and Chinese; `{name}` is replaced by a value. */

import { keep, kept } from "./api.js";

const LANGUAGE = "maskmill.language";

/** @type {Record<string, [string, string]>} */
const TABLE = {
  title: ["maskmill · review", "maskmill · 审核"],
  skip: ["Skip to the image", "跳到图片"],
  language: ["中文", "English"],
  languageLabel: ["Switch to Chinese", "切换到英文"],
  theme: ["Light or dark", "浅色或深色"],
  help: ["Help and keys", "帮助与快捷键"],
  undo: ["Undo", "撤销"],
  queue: ["Images to review", "待审核的图片"],
  close: ["Close", "关闭"],
  search: ["Search names", "搜索文件名"],
  more: ["Show more", "显示更多"],
  noMatch: ["No image matches.", "没有匹配的图片。"],
  pending: ["reading {n} results…", "正在读取 {n} 个结果…"],
  progress: ["{n} of {total} decided", "已审核 {n} / {total}"],
  place: ["{n} left", "还剩 {n} 张"],
  filterState: ["Verdict", "审核状态"],
  filterLabel: ["Label", "类别"],
  filterStatus: ["Batch status", "批处理结果"],
  filterSample: ["Sample of", "随机抽样"],
  filterDropped: ["with dropped masks", "含被过滤的掩码"],
  all: ["All", "全部"],
  open: ["To review", "待审核"],
  unseen: ["Unseen", "未审核"],
  older: ["Reviewed on an older result", "结果已更新，需重看"],
  accepted: ["Accepted", "已通过"],
  fixed: ["Fixed", "已修正"],
  rejected: ["Rejected", "已弃用"],
  question: ["Question", "有疑问"],
  done: ["Done", "有掩码"],
  empty: ["Empty", "无目标"],
  noLabel: ["no label", "无类别"],
  previous: ["Previous image", "上一张"],
  next: ["Next image, leave this one undecided", "下一张（暂不决定）"],
  picture: ["Image with its masks. Click on a mask to select it.", "图片和掩码。点击掩码即可选中。"],
  fit: ["Whole image", "显示整张图"],
  objects: ["Objects", "目标"],
  object: ["Object {n}", "目标 {n}"],
  noObjects: ["No object", "没有目标"],
  others: ["Not part of the result", "未采用的掩码"],
  keepOne: ["Keep", "保留"],
  removeOne: ["Remove", "删除"],
  removedNow: ["removed just now", "刚刚删除"],
  labels: ["Labels", "类别"],
  typeLabel: ["Type a label (L)", "输入类别（L）"],
  selected: ["{n} selected", "已选 {n} 个"],
  accept: ["Accept", "通过"],
  acceptChanged: ["Save and go on", "保存并继续"],
  reject: ["Reject", "弃用"],
  ask: ["Ask", "提问"],
  rejectTitle: ["Why must this image not be used?", "为什么不能使用这张图片？"],
  rejectHint: ["For example: blurred", "例如：模糊"],
  askTitle: ["What should somebody else decide?", "需要别人决定什么？"],
  askHint: ["Until then the pipeline decides.", "在此之前以批处理结果为准。"],
  cancel: ["Cancel", "取消"],
  save: ["Save", "保存"],
  saved: ["Saved", "已保存"],
  saving: ["Saving…", "正在保存…"],
  unsaved: ["Not saved", "未保存"],
  edited: ["Changed, not saved yet", "有改动，尚未保存"],
  notSaved: ["This decision is not saved: {why}", "这次决定没有保存：{why}"],
  noAnswer: ["the server did not answer; decide again", "服务器没有响应，请再决定一次"],
  lost: ["The server cannot be reached. What is shown as Saved is on disk; start it again to go on.", "无法连接服务器。显示“已保存”的内容都已写入磁盘；请重新启动服务器后继续。"],
  tryNow: ["Try now", "立即重试"],
  back: ["Connected again", "已重新连接"],
  allDone: ["Nothing left to review", "没有待审核的图片了"],
  allDoneText: ["No image passes the filters, or those that do are open on other pages.", "没有符合筛选条件的图片，或者符合的图片正在别的页面打开。"],
  passedText: ["{n} images were passed over.", "有 {n} 张图片被跳过。"],
  again: ["Look at them again", "重新查看"],
  noPicture: ["The picture cannot be shown: {why}", "无法显示图片：{why}"],
  openBy: ["{who} has this image open", "{who} 正在看这张图片"],
  decidedBy: ["{verdict} by {who}", "{who}：{verdict}"],
  changedResult: ["The result of this image has changed in the meantime. Look at it again.", "这张图片的结果刚刚更新，请重新查看。"],
  conflictTitle: ["Somebody else has decided about this image", "别人已对这张图片做出决定"],
  mine: ["Yours", "你的版本"],
  theirs: ["Theirs", "对方的版本"],
  keepMine: ["Save yours", "保存你的版本"],
  takeTheirs: ["Keep theirs", "保留对方的版本"],
  mineGone: ["Some of your objects no longer exist. Decide anew on this version.", "你的部分目标已不存在，请在此版本上重新决定。"],
  nameTitle: ["What is your name?", "你的名字？"],
  nameText: ["It is saved with each decision.", "名字会与每次决定一起保存。"],
  name: ["Name", "名字"],
  changeName: ["Change the name", "修改名字"],
  continue: ["Continue", "继续"],
  tokenTitle: ["This server needs a token", "此服务器需要令牌"],
  tokenText: ["It is in the address that the command printed.", "令牌在命令行输出的网址中。"],
  token: ["Token", "令牌"],
  sheet: ["Contact sheet", "缩略图总览"],
  sheetText: [
    "Click what is wrong. An image is accepted once all its objects were seen here; a missing object does not show.",
    "点击有错的目标。一张图片的所有目标都看过后才算通过；漏标的目标在这里看不到。",
  ],
  sheetGo: ["Done with these {n}", "这 {n} 个看完了"],
  sheetEmpty: ["No unseen object has this label.", "此类别没有未看过的目标。"],
  sheetResult: [
    "{accepted} images accepted, {questions} with a question, {waiting} wait for their other objects",
    "通过 {accepted} 张，有疑问 {questions} 张，另有 {waiting} 张待看其余目标",
  ],
  sheetNotSaved: ["not saved, since they changed: {n}", "因有变动未保存：{n} 张"],
  sheetLeft: ["{n} objects left", "还剩 {n} 个目标"],
  wrong: ["wrong", "有错"],
  whyDoubt: ["Why it is here", "排在前面的原因"],
  why_: ["no doubt", "没有疑点"],
  why_failed: ["failed", "处理失败"],
  why_doubts: ["the run reported {n}", "批处理报告了 {n} 个疑点"],
  why_no_pixels: ["a mask without pixels", "有空掩码"],
  why_nothing: ["nothing found", "什么都没找到"],
  why_dropped_all: ["all {n} masks dropped", "{n} 个掩码全部被过滤"],
  why_score: ["lowest score {n}", "最低分数 {n}"],
  why_stability: ["lowest stability {n}", "最低稳定性 {n}"],
  why_format: ["the output format loses detail: IoU {n}", "输出格式损失细节：IoU {n}"],
  why_prompt: ["uncertain prompt: {n}", "提示不确定：{n}"],
  why_dropped: ["{n} masks dropped", "{n} 个掩码被过滤"],
  why_unknown: ["not read yet", "尚未读取"],
  helpTitle: ["Keys", "快捷键"],
  doAccept: ["accept, or save what you changed", "通过；有改动时保存改动"],
  doDelete: ["remove the selected objects", "删除选中的目标"],
  doKeep: ["keep the selected dropped mask", "保留选中的已过滤掩码"],
  doLabel: ["give the selected objects a label", "给选中的目标设置类别"],
  doType: ["type a label", "输入类别"],
  doReject: ["reject, with a reason", "弃用并说明原因"],
  doAsk: ["ask, with a comment", "提问并留言"],
  doUndo: ["undo, then back to the last image", "撤销；再按返回上一张"],
  doNext: ["next or previous image, undecided", "下一张或上一张，不做决定"],
  doTab: ["next doubtful object, enlarged", "放大下一个可疑目标"],
  doSelect: ["select, with Shift several", "选中；按住 Shift 可多选"],
  doZoom: ["zoom; drag to move", "缩放；拖动可移动"],
  doFit: ["whole image", "显示整张图"],
  doMasks: ["hide all masks while held", "按住时隐藏掩码"],
  doSheet: ["contact sheet", "缩略图总览"],
  keyClick: ["click", "点击"],
  keyWheel: ["wheel", "滚轮"],
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

/** Fill in the texts that elements refer to: `data-t` is the content, `data-t-label` the accessible name. */
export function translate(root = document.documentElement) {
  for (const element of root.querySelectorAll("[data-t]")) element.textContent = t(element.dataset.t);
  for (const element of root.querySelectorAll("[data-t-placeholder]")) {
    element.placeholder = t(element.dataset.tPlaceholder);
    element.setAttribute("aria-label", element.placeholder);
  }
  for (const element of root.querySelectorAll("[data-t-label]")) {
    const text = t(element.dataset.tLabel);
    element.setAttribute("aria-label", text);
    element.title = element.dataset.key ? `${text} (${element.dataset.key})` : text;
  }
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  document.title = t("title");
}
