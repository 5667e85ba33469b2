"""Signs in to the simulator by NTLM as requests_ntlm and pyspnego do it. Arguments: the URL, a user and a password."""

import sys

import requests
from requests_ntlm import HttpNtlmAuth

URL, USER, PASSWORD = sys.argv[1:]
ENVELOPE = """<?xml version="1.0" encoding="utf-8"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"
 xmlns:m="http://schemas.microsoft.com/exchange/services/2006/messages" xmlns:t="http://schemas.microsoft.com/exchange/services/2006/types">
 <s:Body><m:GetFolder><m:FolderShape><t:BaseShape>IdOnly</t:BaseShape></m:FolderShape><m:FolderIds><t:DistinguishedFolderId Id="inbox"/>
 </m:FolderIds></m:GetFolder></s:Body></s:Envelope>"""


def post(password=PASSWORD, **how):
    with requests.Session() as session:
        session.auth = HttpNtlmAuth(USER, password, **how)
        statuses = []
        for _ in range(2):
            answer = session.post(URL, data=ENVELOPE, headers={"Content-Type": "text/xml; charset=utf-8"})
            statuses.append(answer.status_code)
            assert answer.status_code != 200 or "NoError" in answer.text, answer.text
        return statuses


print("bound", post())
print("unbound", post(send_cbt=False))
print("wrong password", post("not the password"))
