"""What this package says to people, in Chinese, by the English text."""

CHINESE = {
    "Flower is not installed (no module {module!r}): ledgerq-monitor[flower]": "没有安装 Flower（缺少模块 {module!r}）：ledgerq-monitor[flower]",
    "LEDGERQ_FLOWER_OAUTH_PROVIDER needs LEDGERQ_FLOWER_OAUTH_KEY, _SECRET, _REDIRECT_URI and _EMAILS": "LEDGERQ_FLOWER_OAUTH_PROVIDER 需要 LEDGERQ_FLOWER_OAUTH_KEY、_SECRET、_REDIRECT_URI 和 _EMAILS",
    "LEDGERQ_FLOWER_BASIC_AUTH: `user:password` is expected, several separated by commas": "LEDGERQ_FLOWER_BASIC_AUTH：应为 `user:password`，多个以逗号分隔",
    "LEDGERQ_FLOWER_HOST={host} is not a loopback address, and anybody could look: set LEDGERQ_FLOWER_BASIC_AUTH or LEDGERQ_FLOWER_OAUTH_PROVIDER, or listen on 127.0.0.1": "LEDGERQ_FLOWER_HOST={host} 不是本机回环地址，任何人都可以查看：请设置 LEDGERQ_FLOWER_BASIC_AUTH 或 LEDGERQ_FLOWER_OAUTH_PROVIDER，或监听 127.0.0.1",
    "LEDGERQ_MONITOR_HOST={host} is not a loopback address, and anybody could scrape: set LEDGERQ_MONITOR_TOKEN, listen on 127.0.0.1, or set LEDGERQ_MONITOR_ALLOW_ANONYMOUS=true to let anybody in": "LEDGERQ_MONITOR_HOST={host} 不是本机回环地址，任何人都可以抓取：请设置 LEDGERQ_MONITOR_TOKEN，或监听 127.0.0.1，或设置 LEDGERQ_MONITOR_ALLOW_ANONYMOUS=true 允许任何人访问",
    "set LEDGERQ_FLOWER_BASIC_AUTH": "设置 LEDGERQ_FLOWER_BASIC_AUTH",
    "set LEDGERQ_MONITOR_TOKEN": "设置 LEDGERQ_MONITOR_TOKEN",
}
